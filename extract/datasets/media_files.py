"""Any folder of clips without labels, such as a benchmark's: `--dataset media-files`, never chosen by itself."""

from __future__ import annotations

from pathlib import Path

from avem.extract.datasets.base import SOUND_SUFFIXES, VIDEO_SUFFIXES, DatasetReader, relative, visible, without_suffix
from avem.records import Clip

NAME = "media-files"


def recognises(_root: Path) -> bool:
    """False: any tree would fit, and labels would be lost without a word."""
    return False


def read(root: Path) -> list[Clip]:
    """Every video below the folder, and every sound file that is not beside a video of its name."""
    folder = root.resolve().name or "clips"
    paths = [path for path in visible(root.rglob("*")) if path.is_file()]
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    taken = {path.with_suffix("") for path in videos}
    sounds = [p for p in paths if p.suffix.lower() in SOUND_SUFFIXES and p.with_suffix("") not in taken]
    return [
        Clip(clip_id=f"{folder}/{without_suffix(inside)}", dataset=folder, path=inside)
        for inside in (relative(path, root) for path in [*videos, *sounds])
    ]


READER = DatasetReader(NAME, "any folder of videos or sound files, with --dataset media-files", recognises, read)
