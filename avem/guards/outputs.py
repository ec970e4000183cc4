"""Where commands and the Python API may write: nothing that avem did not make is ever deleted or overwritten.

A folder to write is absent, empty, or a folder of the same kind that avem made. It is not what the command reads, nor a
parent of it, nor inside it. A file to write is absent, or a file of the same kind that avem made. Everything is checked
before any work begins, and needs neither torch nor the files' content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from avem.errors import SettingError, WriteError
from avem.guards.disk import disk_fault, writing
from avem.guards.output_kinds import FileKind, FolderKind, kind_of, leftovers

Reads = Iterable[str | Path | None]
"""What a command reads: paths or hub ids. What is not on this machine is ignored, and so is None."""


def folder_target(
    target: str | Path, kind: FolderKind | None, *, reads: Reads = (), roots: Reads = (), option: str = "--out"
) -> Path:
    """Refuse a folder that may not be written.

    Args:
        target: The folder; it need not exist, nor its parents.
        kind: What it is to hold; None: whatever avem made there before is to be replaced.
        reads: What the command reads: the folder is neither the same, nor a parent, nor inside.
        roots: Folders of the user's data: the folder may be inside, but is neither the same nor a parent.
        option: What the command line calls the folder, for the message.

    Returns:
        The folder, symbolic links resolved.

    Raises:
        SettingError: It is a file, holds something else, or lies where it would destroy what is read.
        WriteError: Its disk is read-only or full, or permission is denied.
    """
    path = folder_path(target, option)
    for read in _existing(reads):
        _refuse_overlap(target, path, read, option, inside=False)
    for root in _existing(roots):
        _refuse_overlap(target, path, root, option, inside=True)
    if path.is_dir() and any(path.iterdir()):
        _refuse_foreign(target, path, kind, option)
    if (kind is None or kind.replaced) and _is_same_or_parent(path, Path.cwd()):
        raise SettingError(f"{target} is the current folder or holds it; give a new folder with {option}.")
    return path


def folder_path(target: str | Path, option: str = "--out") -> Path:
    """The folder with its symbolic links resolved, once it is known that a folder can be written there.

    Raises:
        SettingError: It is a file, or not a valid path.
        WriteError: Its disk is read-only or full, or permission is denied.
    """
    path = _resolved(target, option)
    if path.exists() and not path.is_dir():
        raise SettingError(f"{target} is a file; give a folder with {option}.")
    _refuse_unwritable(target, path)
    return path


def make_folders(path: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were not there, the deepest first.

    Raises:
        WriteError: One can't be made.
    """
    missing = [step for step in (path, *path.parents) if not step.exists()]
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that `make_folders` made, as far as nothing was written into them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def file_target(target: str | Path, kind: FileKind, *, reads: Reads = (), option: str = "--out") -> Path:
    """Refuse a file that may not be written.

    Args:
        target: The file; it need not exist, nor its folder.
        kind: What it is to hold.
        reads: What the command reads; the file is none of these.
        option: What the command line calls the file.

    Returns:
        The file, symbolic links resolved.

    Raises:
        SettingError: It is a folder, a file that avem did not make, or one that is read.
        WriteError: Its disk is read-only or full, or permission is denied.
    """
    path = _resolved(target, option)
    if path.is_dir():
        raise SettingError(f"{target} is a folder; give a file with {option}.")
    if any(_same(path, read) for read in _existing(reads)):
        raise SettingError(f"{target} is read by this command; give another file with {option}.")
    if path.exists() and not (stat.S_ISREG(path.stat().st_mode) and kind.is_made(path)):
        raise SettingError(f"{target} is not {kind.noun} made by avem; give a new file with {option}, or remove it.")
    _refuse_unwritable(target, path)
    return path


def _resolved(target: str | Path, option: str) -> Path:
    try:
        path = Path(os.path.realpath(target))
        path.exists()
        if len(os.fsencode(path.name)) > 255:
            raise SettingError(f"{str(target)[:60]}... has a name that is too long; give another path with {option}.")
        path.lstat()
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise SettingError(f"{str(target)!r} is not a path ({error}); give another with {option}.") from error
    except OSError as error:
        raise WriteError(f"{target} can't be used: {disk_fault(error) or error.strerror}.") from error
    if path.is_symlink():  # realpath stops where links lead in a circle
        raise SettingError(f"{target} is a symbolic link that leads in a circle; give another path with {option}.")
    return path


def _existing(reads: Reads) -> list[Path]:
    """Those that are on this machine, symbolic links resolved."""
    return [Path(os.path.realpath(read)) for read in reads if read is not None and _exists(Path(read))]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name of a model on the hub need not be one that a disk takes
        return False


def _refuse_overlap(target: str | Path, path: Path, read: Path, option: str, *, inside: bool) -> None:
    """Refuse a folder that is what is read or a parent of it and, unless `inside` is fine, one inside it."""
    if _same(path, read):
        raise SettingError(f"{target} is read by this command; give another folder with {option}.")
    if _is_same_or_parent(path, read):
        raise SettingError(f"{target} holds {read}, which this command reads; give another folder with {option}.")
    if not inside and _is_same_or_parent(read, path):
        raise SettingError(f"{target} is inside {read}, which this command reads; give another folder with {option}.")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, whatever the case of their letters, links and mounts."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_same_or_parent(parent: Path, child: Path) -> bool:
    return any(_same(parent, step) for step in (child, *child.parents))


def _refuse_foreign(target: str | Path, path: Path, kind: FolderKind | None, option: str) -> None:
    """Refuse a folder that holds something else, or of a folder to be replaced, anything more than avem wrote."""
    found = kind_of(path, kind)
    if kind is not None and not kind.replaced and all(item.name.startswith(".") for item in path.iterdir()):
        return  # left by a file browser, or by a process that died while it wrote
    if found is None or (kind is not None and found.name != kind.name):
        noun = "nothing that avem made" if kind is None else f"something that is not {kind.noun} made by avem"
        raise SettingError(f"{target} holds {noun}; give a new folder with {option}.")
    if found.replaced and (foreign := leftovers(path, found)):
        raise SettingError(
            f"{target} holds {foreign[0]}, which avem did not write and would delete; move it, or give a new folder "
            f"with {option}."
        )


def _refuse_unwritable(target: str | Path, path: Path) -> None:
    """Ask the nearest folder that exists whether it can be written, and its disk whether it has any room."""
    folder = next(step for step in (path, *path.parents) if step.exists())
    if not folder.is_dir() and folder != path:
        raise SettingError(f"{target} can't be made: {folder} is a file; give another path.")
    folder = folder if folder.is_dir() else folder.parent
    disk = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if disk is not None and disk.f_flag & os.ST_RDONLY:
        raise WriteError(f"{target} can't be written: the disk is read-only; give another path.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{target} can't be written: {folder} does not permit it; give another path.")
    if disk is not None and disk.f_blocks and disk.f_bavail == 0:
        raise WriteError(f"{target} can't be written: the disk is full; make room and run the same command again.")
