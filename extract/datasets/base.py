"""What the readers share: their form, media files, and small helpers for paths and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from avem.emotions import parse_emotion
from avem.errors import DataError
from avem.extract.defaults import SOUND_SUFFIXES as SOUND_SUFFIXES
from avem.extract.defaults import VIDEO_SUFFIXES as VIDEO_SUFFIXES
from avem.records import Clip, Emotion


@dataclass(frozen=True, slots=True)
class DatasetReader:
    """One dataset's layout on disk."""

    name: str
    """What `--dataset` calls it."""
    looked_for: str
    """The files that tell it apart, for the message that nothing was recognised."""
    recognises: Callable[[Path], bool]
    """Whether a root folder has this layout; looks at names, not into files."""
    read: Callable[[Path], list[Clip]]
    """All clips of a root folder that has this layout."""
    labels_by_folder: bool = False
    """Whether a clip's label is the name of its folder, so that a folder of another name is skipped."""


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths sorted by name, without hidden ones such as macOS's `._x.mp4`."""
    return sorted(path for path in paths if not path.name.startswith("."))


def videos_in(folder: Path, pattern: str = "*") -> list[Path]:
    """Video files of a folder that fit a glob pattern."""
    return [path for path in files_in(folder, pattern) if path.suffix.lower() in VIDEO_SUFFIXES]


def files_in(folder: Path, pattern: str) -> list[Path]:
    """What in a folder fits a glob pattern; nothing where it can't be listed, of which `survey` tells."""
    try:
        return visible(folder.glob(pattern))
    except OSError:  # in Python 3.11 and 3.12, of a folder in one that lets nobody look
        return []


def folders_in(folder: Path) -> list[Path]:
    """Folders right below a folder, without hidden ones; none where it can't be listed, of which `survey` tells."""
    try:
        return [path for path in visible(folder.iterdir()) if _is(path.is_dir)]
    except OSError:
        return []


def has_file(path: Path) -> bool:
    """Whether there is a file; no also where its folder lets nobody look, of which `survey` tells."""
    return _is(path.is_file)


def _is(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError:
        return False


def unlistable(root: Path) -> list[OSError]:
    """Why folders of a dataset can't be listed, the root among them; each error names its folder."""
    errors: list[OSError] = []
    for _, folders, _ in os.walk(root, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not skipped(name))
    return errors


def skipped(name: str) -> bool:
    """Whether a folder of this name holds no clips: a hidden one, or the `lost+found` of a file system's root."""
    return name.startswith(".") or name == "lost+found"


def first_existing(root: Path, *candidates: str) -> Path | None:
    """The first of some relative paths that is there."""
    return next((root / name for name in candidates if (root / name).exists()), None)


def find_table(root: Path, name: str) -> Path | None:
    """A table by file name, in the root or up to two folders below."""
    return next((path for depth in ("", "*/", "*/*/") for path in sorted(root.glob(depth + name))), None)


def relative(path: Path, root: Path) -> str:
    """Path below the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def without_suffix(path: str) -> str:
    """A relative path without its suffix, as clip ids have it."""
    return str(PurePosixPath(path).with_suffix(""))


def sound_beside(path: Path, root: Path) -> str:
    """A `.wav` of the same name next to a video, relative to the root, or an empty string."""
    sound = path.with_suffix(".wav")
    return relative(sound, root) if sound != path and has_file(sound) else ""


def emotion_of(label: str) -> Emotion | None:
    """The emotion that a label means, None where it is empty or outside the seven."""
    return parse_emotion(label) if label else None


def need(path: Path | None, root: Path, what: str) -> Path:
    """A file or folder that a layout can't do without.

    Raises:
        DataError: It is not there.
    """
    if path is None:
        raise DataError(f"{root} has no {what}; fetch that part of the dataset and put it there.")
    return path
