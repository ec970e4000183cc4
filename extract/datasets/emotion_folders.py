"""Any folder of `<emotion>/*.mp4`, also below `train`, `val` and `test`; a `.wav` beside a video is its sound."""

from __future__ import annotations

from pathlib import Path

from avem.emotions import parse_emotion
from avem.extract.datasets.base import DatasetReader, folders_in, relative, sound_beside, videos_in, without_suffix
from avem.records import Clip

SPLITS = ("train", "val", "test")


def emotion_folders(folder: Path) -> list[Path]:
    """Folders right below that are named after an emotion."""
    return [path for path in folders_in(folder) if parse_emotion(path.name)]


def recognises(root: Path) -> bool:
    """Whether folders named after emotions, in the root or in split folders, hold videos."""
    return any(videos_in(folder) for base in _bases(root) for folder in emotion_folders(base))


def read(root: Path) -> list[Clip]:
    """All videos in folders that are named after an emotion."""
    return [
        _clip(root, path, base.name if base != root else "")
        for base in _bases(root)
        for folder in emotion_folders(base)
        for path in videos_in(folder)
    ]


def _bases(root: Path) -> list[Path]:
    return [root, *(root / split for split in SPLITS if (root / split).is_dir())]


def _clip(root: Path, path: Path, split: str) -> Clip:
    dataset, label = root.resolve().name or "clips", path.parent.name
    name = relative(path, root)
    return Clip(
        clip_id=f"{dataset}/{without_suffix(name)}",
        dataset=dataset,
        path=name,
        emotion=parse_emotion(label),
        emotions_raw=label,
        split=split,
        audio_path=sound_beside(path, root),
    )


READER = DatasetReader(
    "emotion-folders", "folders named after emotions, such as happiness/*.mp4", recognises, read, labels_by_folder=True
)
