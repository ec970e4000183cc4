"""The indexes of an array's shards behind a URL: each is read once, and the last ones used are kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from avem.cache.disk.arrays import shard_path
from avem.cache.disk.shards import RowError, ShardIndex, index_bytes, parse_index
from avem.cache.remote.fetch import Fetcher, LostObjectError
from avem.cache.remote.ranges import Range
from avem.errors import StoreError

INDEX_BYTES_KEPT = 2**27
"""Bytes of indexes that a reader keeps, least recently used dropped first; one of 64 rows takes 1 KB."""


class ShardIndexes:
    """Indexes of one array's shards.

    Threads may share one, forked processes may keep using it, and it can be pickled.

    Args:
        fetcher: Reads the store.
        name: The array's path in the store.
        slots: Slots of a shard.
        axes: Axes of the array.
    """

    def __init__(self, fetcher: Fetcher, name: str, slots: int, axes: int) -> None:
        self.fetcher, self._name, self.slots, self._axes = fetcher, name, slots, axes
        self._kept: OrderedDict[int, ShardIndex] = OrderedDict()
        self._most = max(INDEX_BYTES_KEPT // index_bytes(slots), 1)
        self._is_listed = False
        self._lock, self._pid = threading.Lock(), os.getpid()

    def __reduce__(self) -> tuple[type[ShardIndexes], tuple[Fetcher, str, int, int]]:
        return ShardIndexes, (self.fetcher, self._name, self.slots, self._axes)

    @property
    def size(self) -> int:
        """Bytes of an index with its checksum."""
        return index_bytes(self.slots)

    def shard(self, index: int) -> str:
        """A shard's name in the store."""
        return shard_path(Path(self._name), index, self._axes).as_posix()

    def tail(self, index: int) -> Range:
        """The range that holds a shard's index."""
        return self.shard(index), -self.size, None

    def known(self, shards: Iterable[int]) -> dict[int, ShardIndex]:
        """The indexes that are known, of these shards."""
        found = {}
        with self._guard:
            for index in shards:
                if index in self._kept:
                    self._kept.move_to_end(index)
                    found[index] = self._kept[index]
        return found

    def load(self, shards: Sequence[int], *, fresh: bool = False) -> dict[int, ShardIndex]:
        """The indexes of shards, as far as they are there and undamaged.

        They come from the read cache, if there is one and the version of their shard is known.

        Args:
            shards: Whose.
            fresh: Whether to read all of them from the server.

        Raises:
            StoreError: The server can't be reached, or refuses.
        """
        found = {} if fresh else self.known(shards)
        missing = [index for index in shards if index not in found]
        if not missing:
            return found
        if self.fetcher.read_cache is not None and not fresh and not self._is_listed and len(missing) > 1:
            self.fetcher.list(self._name)  # says the versions of all shards at once
            self._is_listed = True
        for position, data in self.fetcher.each([self.tail(index) for index in missing], fresh=fresh):
            if isinstance(data, memoryview):
                self.keep(missing[position], data, found)
            elif not isinstance(data, LostObjectError):
                raise data
        return found

    def keep(self, index: int, data: memoryview, found: dict[int, ShardIndex]) -> None:
        """Keep an index, and enter it into `found`, if it is one: of a damaged one there is none."""
        try:
            entries = parse_index(data[-self.size :], self.slots, Path(self.shard(index)))
        except StoreError:
            return
        found[index] = entries
        with self._guard:
            self._kept[index] = entries
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def damaged(self, row: int, index: int) -> RowError:
        """The error of a row whose shard is not there or has no index."""
        return RowError(row, f"stands in {self.url(index)}, which is missing, truncated or damaged")

    def explained(self, row: int, index: int, error: StoreError) -> RowError:
        """The error of a row whose shard could not be read."""
        if isinstance(error, LostObjectError):
            return self.damaged(row, index)
        return RowError(row, f"can't be read: {str(error).rstrip('.')}")

    def url(self, index: int) -> str:
        """A shard as messages name it."""
        return f"{self.fetcher.url}/{self.shard(index)}"

    @property
    def _guard(self) -> threading.Lock:
        """Guards what is kept; a forked process has its own, because a thread of its parent's may hold the other."""
        if self._pid != os.getpid():
            self._lock, self._pid = threading.Lock(), os.getpid()
        return self._lock
