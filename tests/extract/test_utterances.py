"""IEMOCAP cut into utterances: the speaker's half, the right time, the right sound, and a table to extract."""

import wave

import av
import numpy as np
import pytest

from avem.errors import DataError
from avem.extract import read_dataset
from avem.extract.decode.media import read_video, read_waveform
from avem.extract.utterances import cut_utterances
from avem.records import Emotion

RATE = 10


def write_dialogue(root):
    """Four seconds: the left half is black, the right half white; in second 2 both are grey."""
    path = root / "Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as sink:
        video = sink.add_stream("mpeg4", rate=RATE)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        for number in range(4 * RATE):
            picture = np.zeros((64, 128, 3), np.uint8)
            picture[:, 64:] = 255
            if RATE * 2 <= number < RATE * 3:
                picture[:] = 128
            sink.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        sink.mux(video.encode(None))
    lines = [("0.5", "1.5", "F000", "ang"), ("0.2", "1.2", "M001", "sad"), ("2.0", "3.0", "F002", "fru")]
    for _, _, who, _ in lines:
        sound = root / f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{who}.wav"
        sound.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(sound), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            level = {"F000": 3000, "M001": 9000, "F002": 15000}[who]
            file.writeframes((level * np.sin(np.arange(16000) / 8)).astype("<i2").tobytes())
    text = "".join(f"[{start} - {end}]\tSes01F_impro01_{who}\t{label}\t[1]\n" for start, end, who, label in lines)
    evaluation = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text(text)


def test_each_utterance_has_its_speaker_time_and_sound(tmp_path):
    root, out = tmp_path / "iemocap", tmp_path / "cut"
    write_dialogue(root)
    made = cut_utterances(root, out)
    assert (made.cut, made.failed) == (3, {})
    clips = {clip.clip_id: clip for clip in read_dataset(out)}
    assert {name: clip.emotion for name, clip in clips.items()} == {
        "iemocap/Ses01F_impro01_F000": Emotion.ANGER,
        "iemocap/Ses01F_impro01_M001": Emotion.SADNESS,
        "iemocap/Ses01F_impro01_F002": None,
    }
    for who, brightness, loudness in (("F000", 0, 3000), ("M001", 255, 9000), ("F002", 128, 15000)):
        path = out / clips[f"iemocap/Ses01F_impro01_{who}"].path
        video = read_video(path, 4)
        assert video.frames.shape == (4, 64, 64, 3)
        assert abs(video.frames.astype(int) - brightness).max() < 30
        heard = abs(read_waveform(path)[2000:14000]).max() * 32767
        assert heard == pytest.approx(loudness, rel=0.1)


def test_a_dialogue_without_video_fails_alone_and_clips_are_kept(tmp_path):
    root, out = tmp_path / "iemocap", tmp_path / "cut"
    write_dialogue(root)
    cut_utterances(root, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    evaluation = root / "Session1/dialog/EmoEvaluation/Ses01F_impro02.txt"
    evaluation.write_text("[1.0 - 2.0]\tSes01F_impro02_F000\tneu\t[1]\n")
    made = cut_utterances(root, out)
    assert made.cut == 3
    assert "There is no" in made.failed["Ses01F_impro02"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")} == before


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no evaluations of IEMOCAP"):
        cut_utterances(tmp_path, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
