"""One owner of a folder: the second process that would write into it ends with one sentence.

The owner holds a lock of the kernel on a small file, so that it ends with the owner however that ends. The file says
who the owner is, and stays when the lock is gone.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avem.disk import writing
from avem.errors import SettingError
from avem.output_kinds import LOCK

logger = logging.getLogger(__name__)

FAR = 1 << 30
"""Position of the byte that is locked on Windows, where a locked byte can't be read."""


class Owner:
    """Holds a lock file until it is closed, or until the process ends.

    Args:
        lock: The file, which is made where it is missing; its folder too.
        what: What is owned, for the message: a folder, or a file.

    Raises:
        SettingError: Another process, or another part of this one, holds it.
        WriteError: The file can't be made.
    """

    def __init__(self, lock: Path, what: Path) -> None:
        with writing(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken = _try_lock(self._handle)
            if not taken:
                raise SettingError(
                    f"Another run writes {what}{_named(self._handle)}; wait for it, or give another folder."
                )
            with writing(lock):
                self._write_name()
        except BaseException:
            os.close(self._handle)
            raise

    def close(self) -> None:
        """Let the next owner in."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write_name(self) -> None:
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the one that writes into a folder while the block runs.

    Raises:
        SettingError: Another process, or another part of this one, writes into it.
        WriteError: The folder can't be written.
    """
    owner = Owner(folder / LOCK, folder)
    try:
        yield
    finally:
        owner.close()


def is_main_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` or `torchrun` started for one run."""
    return os.environ.get("RANK", "0") in ("", "0")


def _named(handle: int) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        found = json.loads(os.read(handle, 1024))
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
