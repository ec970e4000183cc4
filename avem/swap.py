"""Exchanging two paths in one step, where the system can: readers see the old or the new, never neither."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP)


def exchange(first: Path, second: Path) -> bool:
    """Have two files or folders of one disk trade names.

    Returns:
        False where the system, or the disk's file system, has no such step; nothing has changed then.

    Raises:
        OSError: It has, and fails.
    """
    rename = _renameat2()
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_SUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first))


def _renameat2() -> ctypes._NamedFuncPointer | None:
    """Linux's call, from glibc 2.28 and musl 1.2.5 on."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
