"""Locks between writers on one store, dropped by the kernel when their owner dies."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def store_lock(ledger: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the store: shared to commit a shard, exclusive to change the manifest or fold the ledger."""
    ledger.mkdir(parents=True, exist_ok=True)
    handle = os.open(ledger / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


class ShardLocks:
    """Who writes which shard of one stream: one locked byte per shard of one file.

    Linux's open-file-description locks are used, because they also keep two writers of one process apart.
    """

    _handle = -1

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give up every shard; nothing can be taken any more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def take(self, shard: int) -> bool:
        """Become the shard's owner; False if another writer is. Taking it again is fine."""
        try:
            self._set(fcntl.F_WRLCK, shard)
        except BlockingIOError:
            return False
        return True

    def release(self, shard: int) -> None:
        """Give the shard up."""
        self._set(fcntl.F_UNLCK, shard)

    def _set(self, kind: int, shard: int) -> None:
        """Apply a `struct flock`: type, whence, start, length, and the process id that must be 0."""
        fcntl.fcntl(self._handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, shard, 1, 0))
