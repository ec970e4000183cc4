"""FERV39k (Wang et al., 2022): `<scene>/<emotion>/N.mp4`."""

from __future__ import annotations

from pathlib import Path

from avem.emotions import parse_emotion
from avem.extract.datasets.base import DatasetReader, folders_in, relative, sound_beside, videos_in, without_suffix
from avem.extract.datasets.emotion_folders import SPLITS, emotion_folders
from avem.records import Clip

NAME = "ferv39k"


def recognises(root: Path) -> bool:
    """Whether scene folders hold folders that are named after emotions and hold videos."""
    return any(videos_in(folder) for scene in _scenes(root) for folder in emotion_folders(scene))


def read(root: Path) -> list[Clip]:
    """All clips; the scene does not count as a source, because it holds many films."""
    return [
        Clip(
            clip_id=f"{NAME}/{without_suffix(relative(path, root))}",
            dataset=NAME,
            path=relative(path, root),
            emotion=parse_emotion(folder.name),
            emotions_raw=folder.name,
            audio_path=sound_beside(path, root),
        )
        for scene in _scenes(root)
        for folder in emotion_folders(scene)
        for path in videos_in(folder)
    ]


def _scenes(root: Path) -> list[Path]:
    return [path for path in folders_in(root) if path.name not in SPLITS and not parse_emotion(path.name)]


READER = DatasetReader(NAME, "<scene>/<emotion>/*.mp4", recognises, read, labels_by_folder=True)
