"""One owner of a folder: the second process that would write into it ends with one sentence.

The owner holds a lock of the kernel on a small file, so that it ends with the owner however that ends. The file says
who the owner is, and is removed when it is done; after a kill it stays and means nothing.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from avem.errors import SettingError
from avem.guards.disk import writing
from avem.guards.output_kinds import LOCK, FolderKind, mark, unmark_empty
from avem.guards.outputs import Reads, folder_target, make_folders, remove_empty
from avem.reading import parse_json

logger = logging.getLogger(__name__)

FAR = 1 << 30
"""Position of the byte that is locked on Windows, where a locked byte can't be read."""


class Owner:
    """Holds a lock file until it is closed, or until the process ends.

    Args:
        lock: The file, in a folder that is there.
        what: What is owned, for the message: a folder, or a file.

    Raises:
        SettingError: Another process, or another part of this one, holds it.
        WriteError: The file can't be made.
    """

    def __init__(self, lock: Path, what: Path) -> None:
        self._lock = lock
        self._handle = -1
        with writing(lock):
            while not self._open(what):
                pass

    def close(self) -> None:
        """Remove the file and let the next owner in."""
        if self._handle < 0:
            return
        if os.name != "nt":  # where an open file can't be removed
            self._lock.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1

    def _open(self, what: Path) -> bool:
        """Take the lock; False where the file was removed by the owner before, between its opening and its locking."""
        self._handle = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(self._handle):
                raise SettingError(
                    f"Another run writes {what}{_named(self._handle)}; wait for it, or give another folder."
                )
            if not self._is_current():
                os.close(self._handle)
                return False
            os.ftruncate(self._handle, 0)
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())
        except BaseException:
            os.close(self._handle)
            raise
        return True

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), self._lock.stat())
        except FileNotFoundError:
            return False


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the one that writes into a folder while the block runs; it is made, and removed if nothing is written.

    Raises:
        SettingError: Another process, or another part of this one, writes into it.
        WriteError: The folder can't be written.
    """
    made = make_folders(folder)
    try:
        owner = Owner(folder / LOCK, folder)
        try:
            yield
        finally:
            owner.close()
    finally:
        remove_empty(made)


@contextmanager
def opened(
    target: Path, kind: FolderKind, *, reads: Reads = (), roots: Reads = (), option: str = "--out", alone: bool = True
) -> Iterator[None]:
    """Check a folder that is filled in the course of a command, mark it as of its kind, and be its owner.

    Args:
        target: The folder; see `avem.guards.outputs.folder_target`, as for the rest.
        kind: What it is to hold.
        reads: What the command reads.
        roots: The user's data, in which the folder may be.
        option: What the command line calls the folder.
        alone: Whether others may not write into it; else its parts have owners of their own.

    Raises:
        SettingError: The folder may not be written, or another run writes it.
        WriteError: It can't be written.
    """
    path = folder_target(target, kind, reads=reads, roots=roots, option=option)
    made = make_folders(path)
    try:
        with owned(path) if alone else nullcontext():
            with writing(target):
                mark(path, kind)
            try:
                yield
            finally:
                unmark_empty(path)
    finally:
        remove_empty(made)


def is_main_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` or `torchrun` started for one run."""
    return os.environ.get("RANK", "0") in ("", "0")


def _named(handle: int) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        found = parse_json(os.read(handle, 1024), "the lock", dict)
        return f" (process {int(found['pid'])} on {found['host']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and has not written its name yet
        return ""


def _try_lock(handle: int) -> bool:
    """Take the lock if it is free; where a disk has no locks at all, everybody is the owner, with a warning."""
    try:
        import fcntl
    except ImportError:
        return _try_lock_windows(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning("This disk has no locks (%s); see that no other run writes here.", error.strerror)
    return True


def _try_lock_windows(handle: int) -> bool:
    import msvcrt

    os.lseek(handle, FAR, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
