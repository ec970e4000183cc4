"""Any folder of videos and sounds without labels; clips of any depth, a `.wav` beside a video is its sound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from avem.errors import AvemError
from avem.extract.datasets.base import (
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    DatasetReader,
    relative,
    skipped,
    sound_beside,
    without_suffix,
)
from avem.extract.datasets.clips_csv import TABLE, read_clips_table
from avem.records import Clip

NAME = "clips"


def recognises(root: Path) -> bool:
    """Whether there is any video or sound below the root."""
    return next(_media(root), None) is not None


def read(root: Path) -> list[Clip]:
    """All videos, and sounds that belong to no video, without labels."""
    files = sorted(_media(root))
    videos = {path.with_suffix("") for path in files if path.suffix.lower() in VIDEO_SUFFIXES}
    wanted = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES or path.with_suffix("") not in videos]
    names = [without_suffix(relative(path, root)) for path in wanted]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return [_clip(root, path, name in twice) for path, name in zip(wanted, names, strict=True)]


def read_one(path: Path) -> Clip:
    """The clip that one media file is, below its folder; a sound beside a video of its name is that video's."""
    return _clip(path.parent, path, False)


def advice(root: Path) -> str:
    """How clips without labels get some: names a table in their folder that could be meant."""
    if (root / TABLE).is_file():
        return f"{root / TABLE} has no labels; a column emotion in it gives each clip one."
    tables = [path for path in sorted(root.glob("*.[ct]sv")) if _lists_clips(path)]
    if tables:
        return (
            f"{tables[0]} looks like a table of clips: to use its labels, run `avem extract {quote(str(tables[0]))}`."
        )
    return (
        "To label them, put a clips.csv with the columns path and emotion beside them, and run the same command again."
    )


def _lists_clips(path: Path) -> bool:
    try:
        return bool(read_clips_table(path, say=False))
    except AvemError:
        return False


def _media(root: Path) -> Iterator[Path]:
    """Media files below a folder; hidden ones are skipped, links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not skipped(name)]
        for name in files:
            if not name.startswith(".") and name.lower().endswith((*VIDEO_SUFFIXES, *SOUND_SUFFIXES)):
                yield Path(folder, name)


def _clip(root: Path, path: Path, whole_name: bool) -> Clip:
    """A clip of one file; two files that differ in their suffix alone keep it in their ids."""
    dataset, name = root.resolve().name or NAME, relative(path, root)
    video = path.suffix.lower() in VIDEO_SUFFIXES
    return Clip(
        clip_id=f"{dataset}/{name if whole_name else without_suffix(name)}",
        dataset=dataset,
        path=name,
        emotion=None,
        audio_path=sound_beside(path, root) if video else "",
    )


READER = DatasetReader(NAME, "any videos or sounds, which then have no labels", recognises, read)
