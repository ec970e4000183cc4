"""Clips without a layout: a folder of them, and a single file."""

from __future__ import annotations

import pytest

from avem.errors import DataError
from avem.extract import read_dataset
from avem.extract.datasets import dataset_folder
from avem.extract.datasets.plain_clips import advice
from avem.records import Emotion


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def test_a_folder_of_clips_at_any_depth(tmp_path):
    root = touch(
        tmp_path / "study", "b.mp4", "b.wav", "in/a.MOV", "in/c.wav", "in/.d.mp4", ".hidden/e.mp4", "notes.txt"
    )
    clips = read_dataset(root)
    assert [(clip.clip_id, clip.path, clip.audio_path) for clip in clips] == [
        ("study/b", "b.mp4", "b.wav"),
        ("study/in/a", "in/a.MOV", ""),
        ("study/in/c", "in/c.wav", ""),
    ]
    assert {(clip.emotion, clip.emotions_raw) for clip in clips} == {(None, "")}


def test_clips_that_differ_in_their_suffix_have_two_ids(tmp_path):
    root = touch(tmp_path / "s", "a.mp4", "a.mov", "b.mp4")
    assert [clip.clip_id for clip in read_dataset(root)] == ["s/a.mov", "s/a.mp4", "s/b"]


def test_a_known_layout_comes_before_plain_clips(tmp_path):
    root = touch(tmp_path / "s", "happy/a.mp4", "b.mp4")
    assert [(clip.path, clip.emotion) for clip in read_dataset(root)] == [("happy/a.mp4", Emotion.HAPPINESS)]


def test_one_file_is_one_clip_of_its_folder(tmp_path):
    root = touch(tmp_path / "talks", "a.mp4", "a.wav", "b.mp4")
    (clip,) = read_dataset(root / "a.mp4")
    assert (clip.clip_id, clip.path, clip.audio_path) == ("talks/a", "a.mp4", "a.wav")
    assert dataset_folder(root / "a.mp4") == root
    assert clip in read_dataset(root)


def test_one_file_has_the_label_that_its_folder_gives_it(tmp_path):
    touch(tmp_path, "Actor_02/01-01-03-01-01-01-02.mp4")
    (clip,) = read_dataset(tmp_path / "Actor_02" / "01-01-03-01-01-01-02.mp4")
    assert (clip.emotion, clip.source) == (Emotion.HAPPINESS, "ravdess/actor-02")


def test_a_file_of_another_kind_is_refused(tmp_path):
    touch(tmp_path, "readme.pdf")
    with pytest.raises(DataError, match="neither a folder, nor a CSV table"):
        read_dataset(tmp_path / "readme.pdf")


def test_a_name_tells_two_folders_of_one_name_apart(tmp_path):
    one, two = touch(tmp_path / "a" / "clips", "x.mp4"), touch(tmp_path / "b" / "clips", "x.mp4")
    assert read_dataset(one)[0].clip_id == read_dataset(two)[0].clip_id == "clips/x"
    (clip,) = read_dataset(two, name="second")
    assert (clip.clip_id, clip.dataset, clip.path) == ("second/x", "second", "x.mp4")


def test_the_advice_names_a_table_that_lists_clips(tmp_path):
    root = touch(tmp_path, "x.mp4")
    assert "put a clips.csv" in advice(root)
    (root / "other.csv").write_text("a,b\n1,2\n")
    (root / "table.csv").write_text("Path;Emotion\nx.mp4;happy\n")
    assert f"avem extract {root / 'table.csv'}" in advice(root)
