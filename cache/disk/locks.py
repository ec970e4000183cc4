"""Locks between writers on one store, dropped by the kernel when their owner dies.

A store can be read where the system has no such locks; writing it there is refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avem.cache.disk.layout import LEDGER
from avem.systems import fcntl, lock_file


@contextmanager
def store_lock(ledger: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the store: shared to commit a shard, exclusive to change the manifest or fold the ledger.

    Raises:
        StoreError: This system has no file locks.
    """
    ledger.mkdir(parents=True, exist_ok=True)
    handle = os.open(ledger / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock_file(handle, exclusive=exclusive, wait=True)
        yield
    finally:
        os.close(handle)


@contextmanager
def unswept(store: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Hold a store while one of its small files is replaced, so that no other writer sweeps the temporary file away.

    Where the system has no file locks, no store is written and so none is swept.

    Args:
        store: The store's folder.
        exclusive: Whether others may not do the same at once: the file's new content depends on the old one.
    """
    if not hasattr(fcntl, "flock"):
        yield
        return
    with store_lock(store / LEDGER, exclusive=exclusive):
        yield


class ShardLocks:
    """Who writes which shard of one stream: one locked byte per shard of one file.

    Linux's open-file-description locks are used, because they also keep two writers of one process apart. Where the
    system does not have them, as on macOS, each shard has a locked file of its own in a folder beside it.
    """

    _handle = -1

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._folder = path.with_name(f"{path.name}s")
        self._held: dict[int, int] = {}
        self._by_byte = hasattr(fcntl, "F_OFD_SETLK")

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give up every shard; nothing can be taken any more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            while self._held:
                os.close(self._held.popitem()[1])

    def take(self, shard: int) -> bool:
        """Become the shard's owner; False if another writer is. Taking it again is fine."""
        try:
            if self._by_byte:
                self._set(fcntl.F_WRLCK, shard)
            else:
                self._take_file(shard)
        except BlockingIOError:
            return False
        return True

    def release(self, shard: int) -> None:
        """Give the shard up."""
        if self._by_byte:
            self._set(fcntl.F_UNLCK, shard)
        elif shard in self._held:
            os.close(self._held.pop(shard))

    def _set(self, kind: int, shard: int) -> None:
        """Apply Linux's `struct flock`: type, whence, start, length, and the process id that must be 0."""
        fcntl.fcntl(self._handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, shard, 1, 0))

    def _take_file(self, shard: int) -> None:
        if shard in self._held:
            return
        self._folder.mkdir(exist_ok=True)
        handle = os.open(self._folder / f"{shard:06d}", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock_file(handle, exclusive=True, wait=False)
        except BaseException:
            os.close(handle)
            raise
        self._held[shard] = handle
