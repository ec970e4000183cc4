"""Paths that data names, such as a question's `video`: they stay inside their folder, on reading and on writing."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from avem.errors import DataError
from avem.text.names import named_path

LONGEST_NAME = 255
LONGEST_PATH = 4096
"""In bytes, as Linux has them."""


def inside(folder: Path, name: str, where: str = "") -> Path:
    """The path that a name from a file of data means below a folder.

    Args:
        folder: The folder, which the user named.
        name: A relative path with forward slashes.
        where: What names it, for the message: `question q1`.

    Returns:
        `folder / name`. The file need not exist.

    Raises:
        DataError: The name is no relative path, or leads out of the folder, by `..` or by a symbolic link.

    Example:
        >>> inside(Path("clips"), "part_1/1.mp4").as_posix()
        'clips/part_1/1.mp4'
    """
    if fault := name_fault(name):
        raise DataError(f"{_by(where)}the path {_short(name)}{fault}; give a path inside {folder}.")
    path = folder / name
    root, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath([root, real]) != root:
        raise DataError(
            f"{_by(where)}the path {_short(name)} leaves {folder} by a symbolic link; put the file itself there."
        )
    return path


def is_inside(folder: Path, name: str) -> bool:
    """Whether `inside` would take a name."""
    try:
        inside(folder, name)
    except DataError:
        return False
    return True


def media_file(folder: Path, name: str, where: str = "", *, dataset: str = "") -> Path:
    """A clip's file below the folder that `--media` names: the folder that its path starts in, or the dataset's own.

    It is `folder / name`, else the same without the first part of the name, which is the dataset's folder, whatever
    that is called now. If the folder has that first part, the clip is missing and no other is taken for it.

    Args:
        folder: The folder, which the user named.
        name: A relative path with forward slashes, as data or a store have it.
        where: As of `inside`.
        dataset: For a path of a store, which begins below the dataset's folder: that folder's name, so that the user
            may name the folder around it.

    Returns:
        The file; `folder / name` if there is none.

    Raises:
        DataError: As `inside`.
    """
    path = inside(folder, name, where)
    if (named := named_path(folder, name)).is_file():
        return named
    other = f"{dataset}/{name}" if dataset else below_dataset(folder, name)
    if other and is_inside(folder, other) and (found := named_path(folder, other)).is_file():
        return found
    return path


def below_dataset(folder: Path, name: str) -> str:
    """A clip's path without its first part, for a folder that stands for that part; empty where it does not.

    Args:
        folder: The folder, which the user named.
        name: A relative path with forward slashes.
    """
    first, *rest = PurePosixPath(name).parts or ("",)
    return "/".join(rest) if rest and not os.path.lexists(folder / first) else ""


def name_fault(name: str) -> str:
    """Why a name is no relative path that stays below its folder, for the middle of a sentence; empty if it is one."""
    posix = PurePosixPath(name)
    if any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) <= 0xDFFF for letter in name):
        return " holds characters that no file name has"
    if fault := outside_fault(name):
        return fault
    if len(name.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in posix.parts):
        return " is too long"
    return ""


def outside_fault(name: str) -> str:
    """Why a name does not stay below its folder, for the middle of a sentence; empty if it does.

    The name may hold any character, as names that a disk gave do.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not posix.parts:
        return " is empty"
    if posix.is_absolute() or windows.drive or windows.root:
        return " is absolute"
    if ".." in posix.parts or ".." in windows.parts:
        return " leads out of its folder"
    return ""


def _short(name: str) -> str:
    """A name for a message: short, and without characters that a terminal would obey."""
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def _by(where: str) -> str:
    return f"{where}: " if where else ""
