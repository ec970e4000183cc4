"""`avem utterances`: IEMOCAP's dialogues cut into one clip for each utterance, with the half that shows its speaker."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av
import av.error
import numpy as np

from avem.errors import DataError, MediaError
from avem.extract.datasets import iemocap
from avem.extract.datasets.iemocap import Utterance
from avem.extract.decode.containers import Clock, open_media
from avem.extract.decode.decoded import RATE_HZ, Frames, Samples
from avem.extract.decode.media import read_sound
from avem.files import write_atomic
from avem.guards.disk import writing
from avem.guards.output_kinds import UTTERANCES
from avem.guards.ownership import opened
from avem.progress import stage

LIMIT_S = 3600.0
"""Seconds that reading one dialogue may take."""
LONGEST_SOUND = (0.0, 1e9)
SAMPLES_A_FRAME = 1024
COLUMNS = ("path", "emotion", "clip_id", "split", "source", "dataset")


@dataclass(frozen=True, slots=True)
class CutResult:
    """What was cut."""

    cut: int
    failed: dict[str, str]
    """Dialogue to the reason why it could not be cut."""


def cut_utterances(root: Path, out: Path) -> CutResult:
    """Cut IEMOCAP's dialogues, and list the clips in a `clips.csv`, which `avem extract` reads.

    Clips that are there already are kept, so a stopped run resumes.

    Args:
        root: IEMOCAP's folder, with `Session1/dialog/avi/DivX/Ses01F_impro01.avi` and so on.
        out: Where `clips.csv` and `clips/` go.

    Raises:
        DataError: The folder holds no utterances.
        SettingError: The folder for the clips may not be written.
    """
    said = sorted(iemocap.utterances(root), key=lambda each: (each.dialogue, each.start_s))
    if not said:
        raise DataError(f"{root} holds no evaluations of IEMOCAP; give the folder with Session1 to Session5.")
    failed: dict[str, str] = {}
    rows = []
    with opened(out, UTTERANCES, roots=[root], option="OUT"), stage("cut", len(said), "utterances") as bar:
        for dialogue, group in groupby(said, key=lambda each: each.dialogue):
            members = list(group)
            try:
                _cut_dialogue(root, out, dialogue, members)
                rows += members
            except MediaError as error:
                failed[dialogue] = str(error)
            bar.advance(len(members))
        write_atomic(out / "clips.csv", _table(rows))
    return CutResult(len(rows), failed)


def _target(out: Path, said: Utterance) -> Path:
    return out / "clips" / said.session / f"{said.name}.mp4"


def _cut_dialogue(root: Path, out: Path, dialogue: str, said: list[Utterance]) -> None:
    """Write the clips of one dialogue that are not there yet, reading its pictures once.

    Raises:
        MediaError: The dialogue or the sound of an utterance can't be read.
    """
    missing = [each for each in said if not _target(out, each).is_file()]
    if not missing:
        return
    path = root / said[0].session / "dialog" / "avi" / "DivX" / f"{dialogue}.avi"
    if not path.is_file():
        raise MediaError(f"There is no {path}; fetch the dialogues' videos.")
    for each, frames, rate in _pictures(path, missing):
        sound = root / each.session / "sentences" / "wav" / dialogue / f"{each.name}.wav"
        samples = read_sound(sound, span=LONGEST_SOUND).samples
        _write_clip(_target(out, each), frames, rate, samples)


def _pictures(path: Path, said: list[Utterance]) -> list[tuple[Utterance, list[Frames], Fraction]]:
    """The frames of each utterance, the speaker's half, uint8 [H, W / 2, 3] each, and their rate."""
    frames: dict[str, list[Frames]] = {each.name: [] for each in said}
    with open_media(path, Clock(path, LIMIT_S)) as container:
        if not container.streams.video:
            raise MediaError(f"{path} has no picture.")
        stream = container.streams.video[0]
        rate = stream.average_rate or Fraction(30)
        try:
            for number, frame in enumerate(container.decode(stream)):
                at = float(frame.time if frame.time is not None else number / rate)
                now = [each for each in said if each.start_s <= at < each.end_s]
                picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8) if now else None
                for each in now:
                    assert picture is not None
                    middle = picture.shape[1] // 2
                    half = picture[:, :middle] if each.on_the_left else picture[:, middle:]
                    frames[each.name].append(_even(half))
        except av.error.FFmpegError as error:
            raise MediaError(f"{path} can't be decoded ({error}).") from error
    empty = [name for name, found in frames.items() if not found]
    if empty:
        raise MediaError(f"{path} has no picture at the time of {empty[0]}; its video is shorter than its sound.")
    return [(each, frames[each.name], Fraction(rate)) for each in said]


def _even(picture: Frames) -> Frames:
    """A picture with even height and width, as H.264 wants them."""
    height, width = (size - size % 2 for size in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])


def _write_clip(target: Path, frames: list[Frames], rate: Fraction, samples: Samples) -> None:
    """An MP4 file of H.264 and AAC, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        with writing(target), av.open(str(fresh), "w") as sink:
            video = sink.add_stream("libx264", rate=rate, options={"crf": "18"})
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
            audio = sink.add_stream("aac", rate=RATE_HZ, layout="mono")
            for picture in frames:
                sink.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            for start in range(0, len(samples), SAMPLES_A_FRAME):
                part = np.ascontiguousarray(samples[None, start : start + SAMPLES_A_FRAME], dtype=np.float32)
                sound = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                sound.sample_rate, sound.pts = RATE_HZ, start
                sink.mux(audio.encode(sound))
            for stream in (video, audio):
                sink.mux(stream.encode(None))
        fresh.replace(target)
    except av.error.FFmpegError as error:
        raise MediaError(f"{target} can't be encoded ({error}).") from error
    finally:
        fresh.unlink(missing_ok=True)


def _table(said: list[Utterance]) -> str:
    sink = io.StringIO()
    table = csv.writer(sink, lineterminator="\n")
    table.writerow(COLUMNS)
    for each in said:
        label = str(each.emotion) if each.emotion else each.label
        path = f"clips/{each.session}/{each.name}.mp4"
        split = each.session.lower()
        table.writerow((path, label, f"{iemocap.NAME}/{each.name}", split, each.speaker, iemocap.NAME))
    return sink.getvalue()
