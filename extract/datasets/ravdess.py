"""RAVDESS (Livingstone & Russo, 2018): `[ravdess_videos*/]Actor_NN/MM-CC-EE-II-SS-RR-AA.mp4`, labels in the names.

A take exists as audio-video (01), video-only (02) and audio-only (03) files. One clip is made of each take: the
audio-video file; or else the video-only file with the audio-only one as its sound; or else the audio-only file.
"""

from __future__ import annotations

import re
from pathlib import Path

from avem.extract.datasets.base import DatasetReader, relative, visible, without_suffix
from avem.records import Clip, Emotion

NAME = "ravdess"
FILE_NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(\d\d)-(\d\d)-(\d\d)-(\d\d)\.(mp4|wav)")
LABELS: dict[str, tuple[str, Emotion | None]] = {
    "01": ("neutral", Emotion.NEUTRAL),
    "02": ("calm", None),
    "03": ("happy", Emotion.HAPPINESS),
    "04": ("sad", Emotion.SADNESS),
    "05": ("angry", Emotion.ANGER),
    "06": ("fearful", Emotion.FEAR),
    "07": ("disgust", Emotion.DISGUST),
    "08": ("surprised", Emotion.SURPRISE),
}
DEPTHS = ("", "Actor_*/", "*/Actor_*/")
"""Where the files can be: an actor's own folder, the root, or one folder further down."""


def recognises(root: Path) -> bool:
    """Whether any file has a RAVDESS name."""
    return any(FILE_NAME.fullmatch(path.name) for depth in DEPTHS for path in root.glob(f"{depth}0*"))


def read(root: Path) -> list[Clip]:
    """One clip a take."""
    files = [path for depth in DEPTHS for path in visible(root.glob(f"{depth}0*")) if FILE_NAME.fullmatch(path.name)]
    takes: dict[str, dict[str, Path]] = {}
    for path in files:
        takes.setdefault(path.stem[3:], {}).setdefault(path.stem[:2], path)
    return [_clip(root, takes[take]) for take in sorted(takes)]


def _clip(root: Path, files: dict[str, Path]) -> Clip:
    modality = min(files)
    path = relative(files[modality], root)
    _, _, emotion, _, _, _, actor = files[modality].stem.split("-")
    raw, label = LABELS[emotion]
    return Clip(
        clip_id=f"{NAME}/{without_suffix(path)}",
        dataset=NAME,
        path=path,
        emotion=label,
        emotions_raw=raw,
        source=f"{NAME}/actor-{actor}",
        audio_path=relative(files["03"], root) if modality == "02" and "03" in files else "",
    )


READER = DatasetReader(NAME, "Actor_*/01-01-03-01-01-01-01.mp4", recognises, read)
