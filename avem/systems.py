"""What differs between Linux, macOS and Windows, in one file: cores, locks, reads at an offset, memory used.

Everything here imports on every system. Reading a store needs nothing that is missing on Windows; writing one needs
file locks that the system drops when their owner dies, which Windows does not have in this form.
"""

from __future__ import annotations

import os
import sys
import threading

from avem.errors import StoreError

try:
    import fcntl as fcntl  # `cache.locks` takes it from here
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

READ_BINARY = os.O_RDONLY | getattr(os, "O_BINARY", 0)
"""Flags that open a file for reading its bytes; Windows would translate line ends without `O_BINARY`."""

_seek_guard = threading.Lock()


def usable_cores() -> int:
    """Cores that this process may use; where the system does not say, all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_at(handle: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes of an open file from an offset on, for threads that share the file.

    Args:
        handle: File descriptor, opened with `READ_BINARY`.
        length: Bytes to read; fewer come at the file's end.
        offset: Where to begin, in bytes.
    """
    if hasattr(os, "pread"):
        return os.pread(handle, length, offset)
    with _seek_guard:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, length)


def sync_data(handle: int) -> None:
    """Make an open file's content durable; its times need not be."""
    getattr(os, "fdatasync", os.fsync)(handle)


def peak_memory_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB


def lock_file(handle: int, *, exclusive: bool, wait: bool) -> None:
    """Lock an open file until it is closed or its process ends.

    Args:
        handle: File descriptor.
        exclusive: Whether nobody else may hold it at the same time.
        wait: Wait for others to let go; else a `BlockingIOError` says that one holds it.

    Raises:
        StoreError: This system has no such locks.
    """
    if fcntl is None:
        raise StoreError(
            "This system has no file locks that end with their process, so avem only reads here; write on Linux or "
            "macOS, or in WSL."
        )
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
