"""Every reader knows its layout, and all keep one contract; the trees are miniature and their media empty files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from openpyxl import Workbook

from avem.errors import DataError, MissingFileError, SettingError
from avem.extract import read_dataset
from avem.extract.datasets import READERS
from avem.records import Emotion


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write(root: Path, path: str, text: str, encoding: str = "utf-8") -> None:
    touch(root, path)
    (root / path).write_text(text, encoding=encoding)


def sheet(root: Path, path: str, rows: list[list[object]]) -> None:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    book.save(root / path)


def clips_csv(root):
    touch(root, "a/1.mp4", "a/2.mp4", "a/2.wav")
    write(
        root,
        "clips.csv",
        "path,emotion,clip_id,split,source,dataset,audio_path\n"
        "a/1.mp4,Joy,one,train,film,mine,\na/2.mp4,,,,,,a/2.wav\n",
    )
    return {
        "one": ("a/1.mp4", Emotion.HAPPINESS, "Joy", "train", "film", ""),
        f"{root.name}/a/2": ("a/2.mp4", None, "", "", "", "a/2.wav"),
    }


def emotion_folders(root):
    touch(root, "happy/x.mp4", "happy/x.wav", "happy/._x.mp4", "train/anger/y.avi", "notes/z.mp4")
    return {
        f"{root.name}/happy/x": ("happy/x.mp4", Emotion.HAPPINESS, "happy", "", "", "happy/x.wav"),
        f"{root.name}/train/anger/y": ("train/anger/y.avi", Emotion.ANGER, "anger", "train", "", ""),
    }


def ferv39k(root):
    touch(root, "Crime/Angry/7.mp4", "Daily/Surprise/7.mp4")
    return {
        "ferv39k/Crime/Angry/7": ("Crime/Angry/7.mp4", Emotion.ANGER, "Angry", "", "", ""),
        "ferv39k/Daily/Surprise/7": ("Daily/Surprise/7.mp4", Emotion.SURPRISE, "Surprise", "", "", ""),
    }


def ravdess(root):
    folder = "ravdess_videos_1/Actor_01/"
    touch(
        root,
        f"{folder}01-01-03-01-01-01-01.mp4",
        f"{folder}02-01-03-01-01-01-01.mp4",
        f"{folder}02-01-02-01-01-01-01.mp4",
        f"{folder}03-01-02-01-01-01-01.wav",
        f"{folder}03-01-06-01-01-01-01.wav",
    )
    calm = f"{folder}02-01-02-01-01-01-01.mp4", None, "calm", "", "ravdess/actor-01"
    happy = f"{folder}01-01-03-01-01-01-01.mp4", Emotion.HAPPINESS, "happy", "", "ravdess/actor-01", ""
    fearful = f"{folder}03-01-06-01-01-01-01.wav", Emotion.FEAR, "fearful", "", "ravdess/actor-01", ""
    return {
        f"ravdess/{folder}02-01-02-01-01-01-01": (*calm, f"{folder}03-01-02-01-01-01-01.wav"),
        f"ravdess/{folder}01-01-03-01-01-01-01": happy,
        f"ravdess/{folder}03-01-06-01-01-01-01": fearful,
    }


def dfew(root):
    touch(root, "Clip/original/1.mp4", "Clip/original/2.mp4", "Clip/original/part_2/30.mp4")
    sheet(root, "Annotation/annotation.xlsx", [["order", "label", "1happy"], [1, 1, 8], [2, 0, 4], [30, 7.0, 9]])
    write(root, "EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "video_name,label\n1,1\n")
    write(root, "EmoLabel_DataSplit/test(single-labeled)/set_1.csv", "video_name,label\n00030,7\n")
    return {
        "dfew/1": ("Clip/original/1.mp4", Emotion.HAPPINESS, "happy", "train", "", ""),
        "dfew/2": ("Clip/original/2.mp4", None, "no single label", "", "", ""),
        "dfew/part_2/30": ("Clip/original/part_2/30.mp4", Emotion.FEAR, "fear", "test", "", ""),
    }


def dfew_24fps(root):
    touch(root, "dfew_original_clips_24fps/part_1/5.mp4", "dfew_original_clips_16khz/part_1/5.wav")
    write(root, "dfew_annotation/test(single-labeled)/set_1.csv", "video_name,label\n5,4\n")
    path, sound = "dfew_original_clips_24fps/part_1/5.mp4", "dfew_original_clips_16khz/part_1/5.wav"
    return {"dfew/part_1/5": (path, Emotion.ANGER, "angry", "test", "", sound)}


def mafw(root):
    touch(root, "clips/00001.mp4", "clips/00002.mp4", "clips/00003.mp4", "clips/00004.mp4")
    sheet(root, "Labels/single-set.xlsx", [["clip", "single_label"], ["00001.mp4", 4], ["00002.mp4", 8]])
    sheet(root, "Labels/multi-set.xlsx", [["clip", "multi_label"], ["00003.mp4", "1,2"]])
    lists = "Train & Test Set/single/"
    write(root, f"{lists}no_caption/set_1/train.txt", "00001.mp4 happiness\n")
    write(root, f"{lists}with_caption/set_1/test.txt", "00004.mp4\tanger\tHe can\u2019t\n", encoding="cp1252")
    return {
        "mafw/00001": ("clips/00001.mp4", Emotion.HAPPINESS, "happiness", "train", "", ""),
        "mafw/00002": ("clips/00002.mp4", None, "contempt", "", "", ""),
        "mafw/00003": ("clips/00003.mp4", None, "anger_disgust", "", "", ""),
        "mafw/00004": ("clips/00004.mp4", Emotion.ANGER, "anger", "test", "", ""),
    }


def mer2023(root):
    touch(root, "train/sample_1.mp4", "test1/samplenew_2.avi", "test3/sample_3.mp4")
    write(root, "train-label.csv", "name,discrete,valence\nsample_1,worried,-1.5\n")
    write(root, "test_labels/test1-label.csv", "name,discrete,valence\nsamplenew_2,sad,-2\n")
    return {
        "mer2023/train/sample_1": ("train/sample_1.mp4", None, "worried", "train", "", ""),
        "mer2023/test1/samplenew_2": ("test1/samplenew_2.avi", Emotion.SADNESS, "sad", "test1", "", ""),
        "mer2023/test3/sample_3": ("test3/sample_3.mp4", None, "", "test3", "", ""),
    }


def mer2025(root):
    touch(root, "video/a.mp4", "audio/a.wav", "video/b.mp4", "video/c.mp4")
    write(root, "track1_train_disdim.csv", "name,discrete,valence\na,angry,-3\n")
    write(root, "track2_train_ovmerd.csv", "name,openset\nb,\"['proud', 'happy']\"\n")
    write(root, "track_all_candidates.csv", "name\nc\n")
    return {
        "mer2025/a": ("video/a.mp4", Emotion.ANGER, "angry", "train", "", "audio/a.wav"),
        "mer2025/b": ("video/b.mp4", None, "proud, happy", "train", "", ""),
        "mer2025/c": ("video/c.mp4", None, "", "candidate", "", ""),
    }


def mer2026(root):
    touch(root, "video/a.mp4", "audio/a.wav", "video/b.mp4", "video/c.mp4", "video/d.mp4")
    write(root, "track1_train.csv", "name,discrete\na,worried\n")
    write(root, "track2_train_human.csv", "name,openset\nb,\"['proud', 'happy']\"\n")
    write(root, "track2_train_mercaptionplus.csv", "name,openset\nb,\"['sad']\"\n")
    write(root, "track3_emoprefer.csv", "name,a1,a2,preference\nc,calm,angry,a1\n")
    write(root, "track3_candidate.csv", "name,a1,a2,preference\nd,calm,angry,\n")
    return {
        "mer2026/a": ("video/a.mp4", None, "worried", "train", "", "audio/a.wav"),
        "mer2026/b": ("video/b.mp4", None, "proud, happy", "train", "", ""),
        "mer2026/c": ("video/c.mp4", None, "", "train", "", ""),
        "mer2026/d": ("video/d.mp4", None, "", "candidate", "", ""),
    }


def meld(root):
    touch(root, "train_splits/dia0_utt0.mp4", "test/dia0_utt0.mp4")
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    write(root, "train_sent_emo.csv", head + '1,"Oh, no",Rachel,joy,positive,0,0\n2,x,Ross,fear,negative,0,1\n')
    write(root, "test_sent_emo.csv", head + "1,Why,Ross,surprise,negative,0,0\n")
    return {
        "meld/train/dia0_utt0": (
            "train_splits/dia0_utt0.mp4",
            Emotion.HAPPINESS,
            "joy",
            "train",
            "meld/train/dia0",
            "",
        ),
        "meld/test/dia0_utt0": ("test/dia0_utt0.mp4", Emotion.SURPRISE, "surprise", "test", "meld/test/dia0", ""),
    }


def iemocap(root):
    for name in ("Ses01F_impro01_F000", "Ses01F_impro01_M001", "Ses01F_impro01_F002"):
        touch(root, f"Session1/sentences/wav/Ses01F_impro01/{name}.wav")
    lines = (
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\n"
        "[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[2.5000, 2.5000, 2.5000]\n"
        "[11.5 - 12.5]\tSes01F_impro01_F002\txxx\t[2.5000, 2.5000, 2.5000]\n"
    )
    write(root, "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", lines)
    wav = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01"
    female, male = "iemocap/Session1-F", "iemocap/Session1-M"
    return {
        "iemocap/Ses01F_impro01_F000": (f"{wav}_F000.wav", Emotion.NEUTRAL, "neu", "session1", female, ""),
        "iemocap/Ses01F_impro01_M001": (f"{wav}_M001.wav", Emotion.HAPPINESS, "exc", "session1", male, ""),
        "iemocap/Ses01F_impro01_F002": (f"{wav}_F002.wav", None, "xxx", "session1", female, ""),
    }


def cremad(root):
    touch(root, "VideoFlash/1001_DFA_ANG_XX.flv", "AudioWAV/1001_DFA_ANG_XX.wav", "VideoFlash/1002_IEO_HAP_HI.flv")
    write(
        root,
        "processedResults/summaryTable.csv",
        '"","FileName","VoiceVote","FaceVote","MultiModalVote"\n"1","1001_DFA_ANG_XX","A","A:D","A"\n',
    )
    path, sound = "VideoFlash/1001_DFA_ANG_XX.flv", "AudioWAV/1001_DFA_ANG_XX.wav"
    raw = "ANG voice=A face=A:D both=A"
    happy = ("VideoFlash/1002_IEO_HAP_HI.flv", Emotion.HAPPINESS, "HAP", "", "crema-d/actor-1002", "")
    return {
        "crema-d/1001_DFA_ANG_XX": (path, Emotion.ANGER, raw, "", "crema-d/actor-1001", sound),
        "crema-d/1002_IEO_HAP_HI": happy,
    }


def plain(root):
    touch(root, "one.mp4", "deep/two.avi", "deep/two.wav")
    name = root.name
    return {
        f"{name}/one": ("one.mp4", None, "", "", "", ""),
        f"{name}/deep/two": ("deep/two.avi", None, "", "", "", "deep/two.wav"),
    }


TREES = [
    (clips_csv, "clips-csv"),
    (emotion_folders, "emotion-folders"),
    (ferv39k, "ferv39k"),
    (ravdess, "ravdess"),
    (dfew, "dfew"),
    (dfew_24fps, "dfew"),
    (mafw, "mafw"),
    (mer2023, "mer2023"),
    (mer2025, "mer2025"),
    (mer2026, "mer2026"),
    (meld, "meld"),
    (iemocap, "iemocap"),
    (cremad, "crema-d"),
    (plain, "clips"),
]


@pytest.mark.parametrize(("make", "name"), TREES, ids=[make.__name__ for make, _ in TREES])
def test_readers_keep_the_contract(tmp_path, make, name):
    expected = make(tmp_path)
    clips = read_dataset(tmp_path)
    found = {c.clip_id: (c.path, c.emotion, c.emotions_raw, c.split, c.source, c.audio_path) for c in clips}
    assert found == expected
    assert len(found) == len(clips)
    assert clips == read_dataset(tmp_path, name) == read_dataset(str(tmp_path))
    for clip in clips:
        assert (tmp_path / clip.path).is_file()
        assert not clip.audio_path or (tmp_path / clip.audio_path).is_file()
        assert "\\" not in clip.path
        assert clip.dataset


@pytest.mark.parametrize("closed", ["locked", "data", "train", "Session5"])
@pytest.mark.parametrize(("make", "name"), TREES, ids=[make.__name__ for make, _ in TREES])
def test_a_folder_that_lets_nobody_look_takes_only_its_own_clips(tmp_path, make, name, closed, locked):
    expected = make(tmp_path)
    if (tmp_path / closed).exists():
        pytest.skip("the layout has such a folder")
    (tmp_path / closed / "anger").mkdir(parents=True)
    touch(tmp_path, f"{closed}/anger/x.mp4")
    with locked(tmp_path / closed):
        assert {clip.clip_id for clip in read_dataset(tmp_path)} == set(expected)
        assert {clip.clip_id for clip in read_dataset(tmp_path, name)} == set(expected)


def test_a_folder_whose_clips_all_lie_where_nobody_may_look_is_named(tmp_path, locked):
    touch(tmp_path, "closed/anger/1.mp4")
    said = re.escape(f"{tmp_path / 'closed'} can't be read (Permission denied).")
    with locked(tmp_path / "closed"):
        for dataset in (None, "clips", "ferv39k"):
            with pytest.raises(DataError, match=said):
                read_dataset(tmp_path, dataset)
    with locked(tmp_path), pytest.raises(DataError, match=re.escape(f"{tmp_path} can't be read")):
        read_dataset(tmp_path)


def test_every_reader_has_a_tree():
    assert {name for _, name in TREES} == set(READERS)


def test_the_real_ravdess_clips_are_recognised(shared):
    clips = read_dataset(shared / "data" / "ravdess")
    assert len(clips) == 13
    assert {clip.emotion for clip in clips} == set(Emotion)


def test_nothing_recognised_says_what_was_looked_for(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=r"clips\.csv.*Actor_") as caught:
        read_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(DataError, match="holds no clips of the layout ravdess"):
        read_dataset(tmp_path, "ravdess")
    with pytest.raises(SettingError, match="known are"):
        read_dataset(tmp_path, "imaginary")
    with pytest.raises(MissingFileError, match="no file or folder"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "readme.pdf").touch()
    with pytest.raises(DataError, match="neither a folder, nor a CSV table"):
        read_dataset(tmp_path / "readme.pdf")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "no column path"),
        ("where,emotion\na.mp4,sad\n", "no column path; its columns are where, emotion"),
        ("path,emotion\n,sad\n", "line 2 has no path"),
        ("path,emotion\na.mp4,sad\n../b.mp4,sad\n", "line 3: ../b.mp4 is outside"),
        ("path,emotion\n/etc/b.mp4,sad\n", "outside"),
        ("path,emotion,clip_id\na.mp4,sad,x\nb.mp4,sad,x\n", "same clip id x"),
        ("path,emotion\na.mp4,sad\na.mp4,happy\n", "lines 2 and 3"),
        ("path,emotion\n", "holds no clips"),
        ('path,emotion\n"a.mp4,sad\n', "line"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path, table, message):
    write(tmp_path, "clips.csv", table)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path)


def test_a_table_in_windows_encoding_reads(tmp_path):
    write(tmp_path, "clips.csv", "path,emotion,source\na.mp4,sad,Zoë\n", encoding="cp1252")
    assert read_dataset(tmp_path)[0].source == "Zoë"


def test_labels_that_are_missing_or_broken_are_named(tmp_path):
    touch(tmp_path, "Clip/original/1.mp4")
    with pytest.raises(DataError, match=r"Annotation/annotation\.xlsx"):
        read_dataset(tmp_path)
    write(tmp_path, "Annotation/annotation.xlsx", "no zip")
    with pytest.raises(DataError, match="Excel"):
        read_dataset(tmp_path)
