"""Rows of an array behind a URL: each shard's index read once, all rows of a call asked for together.

In a shard that avem wrote, row slot i stands at a known place. A shard whose index is not known yet is asked for its
index and, in the same go, for rows where avem puts them; the index then says whether that was right. Rows that stand
elsewhere, because another library rewrote the shard, are read a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avem.cache.disk.checked_copy import checked_copy
from avem.cache.disk.shards import CRC_BYTES, MISMATCH, MISSING, RowBytes, RowError, ShardIndex
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.indexes import ShardIndexes
from avem.cache.remote.ranges import Range
from avem.errors import StoreError

BYTES_AT_ONCE = 2**28
"""Rows of a call are fetched in batches of so many bytes, which bounds the memory beside the caller's buffer."""
SMALL_ROW = 2**16
"""Bytes up to which the read cache keeps rows in blocks rather than one by one."""
BLOCK_BYTES = 2**20
"""Most bytes of a block of small rows."""
SMALL_SHARD = 2**18
"""Bytes of rows up to which a whole shard is read at once when its index is not known."""
SHARDS_AT_ONCE = 2048
"""Shards of a call that are read together, so that their indexes are kept until its end."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A range to read of a shard, and the rows that it has: none where it is the shard's index alone."""

    at: Range
    index: int
    rows: list[int]


class RemoteRows:
    """Rows of an array of plain byte ranges in a remote store.

    Threads may share one, forked processes may keep using it, and it can be pickled.

    Args:
        fetcher: Reads the store.
        name: The array's path in the store.
        rows_per_shard: Row slots of a shard.
        axes: Axes of the array.
        check: Whether to compare each row with its checksum.
    """

    def __init__(self, fetcher: Fetcher, name: str, rows_per_shard: int, axes: int, *, check: bool = True) -> None:
        self._fetcher, self._slots, self._check = fetcher, rows_per_shard, check
        self._indexes = ShardIndexes(fetcher, name, rows_per_shard, axes)

    def read_into(self, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
        """Read rows, int64 [R], as bytes into a buffer, uint8 [R, row bytes], all at once.

        Raises:
            RowError: A row can't be read, or is not what was written.
        """
        wanted, first, of = np.unique(rows, return_index=True, return_inverse=True)
        for part in _batches(wanted // self._slots, buffer.shape[1]):
            self._read(wanted[part], buffer, first[part])
        repeated = np.flatnonzero(first[of] != np.arange(len(rows)))
        buffer[repeated] = buffer[first[of[repeated]]]

    def row(self, row: int, row_bytes: int) -> RowBytes:
        """One row's bytes, uint8 [row bytes]; raises as `read_into`."""
        out = np.empty((1, row_bytes), dtype=np.uint8)
        self.read_into(np.array([row]), out)
        found: RowBytes = out[0]
        return found

    def problems(self, rows: npt.NDArray[np.int64], row_bytes: int) -> dict[int, str]:
        """What is wrong with rows, ascending and each once, as they are on the server; sound rows are left out."""
        found: dict[int, str] = {}
        for part in _batches(rows // self._slots, row_bytes):
            numbers = rows[part].tolist()
            buffer = np.empty((len(numbers), row_bytes), dtype=np.uint8)
            wrong = self._attempt({row: place for place, row in enumerate(numbers)}, buffer, fresh=True)
            found.update({row: error.problem for row, error in wrong.items()})
        return found

    def _read(self, rows: npt.NDArray[np.int64], buffer: RowBytes, places: npt.NDArray[np.int64]) -> None:
        """Read different rows to their places in the buffer; what does not fit at first is read afresh, once."""
        left = dict(zip(rows.tolist(), places.tolist(), strict=True))
        problems = self._attempt(left, buffer, fresh=False)
        if problems:  # shards may have been replaced since their indexes were read, or kept parts be of no use
            problems = self._attempt({row: left[row] for row in problems}, buffer, fresh=True)
        if problems:
            raise problems[min(problems)]

    def _attempt(self, places: dict[int, int], buffer: RowBytes, *, fresh: bool) -> dict[int, RowError]:
        """Read rows to their places in the buffer; what is wrong with those that could not be read."""
        row_bytes = buffer.shape[1]
        by_shard: dict[int, list[int]] = {}
        for row in places:
            by_shard.setdefault(row // self._slots, []).append(row)
        guesses = self._fetcher.read_cache is None and not fresh
        indexes = self._indexes.known(by_shard) if guesses else self._indexes.load(sorted(by_shard), fresh=fresh)
        unknown = sorted(by_shard.keys() - indexes.keys()) if guesses else []
        problems: dict[int, RowError] = {}
        units = self._units({index: by_shard[index] for index in indexes}, indexes, row_bytes, problems)
        units += [unit for index in unknown for unit in self._guesses(index, by_shard[index], row_bytes)]
        waiting: dict[int, list[tuple[Unit, memoryview]]] = {}
        for position, data in self._fetcher.each([unit.at for unit in units], fresh=fresh):
            unit = units[position]
            if isinstance(data, StoreError):
                problems.update({row: self._indexes.explained(row, unit.index, data) for row in unit.rows})
                continue
            if unit.at[2] is None:
                self._indexes.keep(unit.index, data, indexes)
            waiting.setdefault(unit.index, []).append((unit, data))
            if unit.index in indexes:
                for each, content in waiting.pop(unit.index):
                    self._take(each, content, indexes[unit.index], buffer, places, problems)
        for row in places.keys() - problems.keys():
            if row // self._slots not in indexes:
                problems[row] = self._indexes.damaged(row, row // self._slots)
        return problems

    def _take(
        self,
        unit: Unit,
        data: memoryview,
        entries: ShardIndex,
        buffer: RowBytes,
        places: dict[int, int],
        problems: dict[int, RowError],
    ) -> None:
        """Copy a unit's rows out of its bytes, as far as they are what was written."""
        source, stride = np.frombuffer(data, dtype=np.uint8), buffer.shape[1] + CRC_BYTES
        slots = np.array(unit.rows, dtype=np.int64) % self._slots
        starts = entries[slots, 0].astype(np.int64) - max(unit.at[1], 0)
        fits = (entries[slots, 1] == stride) & (entries[slots, 0] != MISSING) & (starts >= 0)
        for row, start, there in zip(unit.rows, starts.tolist(), fits.tolist(), strict=True):
            if not there:
                problems[row] = self._misplaced(row)
            elif start + stride > len(source):
                problems[row] = RowError(row, f"was lost when {self._indexes.url(unit.index)} was truncated")
            else:
                stored, out = source[start : start + stride], buffer[places[row]]
                if not self._check:
                    np.copyto(out, stored[:-CRC_BYTES])
                elif checked_copy(stored[:-CRC_BYTES], out) != int.from_bytes(stored[-CRC_BYTES:].data, "little"):
                    problems[row] = RowError(row, MISMATCH)

    def _units(
        self,
        by_shard: dict[int, list[int]],
        indexes: dict[int, ShardIndex],
        row_bytes: int,
        problems: dict[int, RowError],
    ) -> list[Unit]:
        """What to read for rows whose index is known."""
        units: list[Unit] = []
        size = max(BLOCK_BYTES // (row_bytes + CRC_BYTES), 1)
        by_block = self._fetcher.read_cache is not None and row_bytes <= SMALL_ROW
        for index, rows in by_shard.items():
            entries, name = indexes[index], self._indexes.shard(index)
            blocks: dict[int, list[int]] = {}
            for row in rows:
                offset, length = (int(number) for number in entries[row % self._slots])
                if offset == MISSING or length != row_bytes + CRC_BYTES:
                    problems[row] = self._misplaced(row)
                elif by_block:
                    blocks.setdefault(row % self._slots // size, []).append(row)
                else:
                    units.append(Unit((name, offset, offset + length), index, [row]))
            for block, members in blocks.items():
                span = _span(entries[block * size : (block + 1) * size])
                if span[1] - span[0] <= 2 * BLOCK_BYTES:
                    units.append(Unit((name, *span), index, members))
                else:  # another library scattered them
                    units += [Unit((name, *_span(entries[row % self._slots][None])), index, [row]) for row in members]
        return units

    def _guesses(self, index: int, rows: list[int], row_bytes: int) -> list[Unit]:
        """What to read of a shard whose index is not known: the index, and rows where avem puts them."""
        stride, name = row_bytes + CRC_BYTES, self._indexes.shard(index)
        if stride * self._slots <= SMALL_SHARD:
            return [Unit((name, 0, None), index, rows)]
        starts = {row: row % self._slots * stride for row in rows}
        guesses = [Unit((name, start, start + stride), index, [row]) for row, start in starts.items()]
        return [Unit(self._indexes.tail(index), index, []), *guesses]

    def _misplaced(self, row: int) -> RowError:
        return RowError(row, f"is missing from {self._indexes.url(row // self._slots)} or misshapen")


def _span(entries: ShardIndex) -> tuple[int, int]:
    """First byte of the rows that are there, and the byte behind the last one."""
    there = entries[entries[:, 0] != MISSING].astype(np.int64)
    return int(there[:, 0].min()), int(there.sum(axis=1).max())


def _batches(shards: npt.NDArray[np.int64], row_bytes: int) -> Iterator[slice]:
    """Ranges of ascending rows that are fetched together, given the shard of each row."""
    rows = max(BYTES_AT_ONCE // max(row_bytes, 1), 1)
    start = 0
    while start < len(shards):
        end = min(start + rows, int(np.searchsorted(shards, shards[start] + SHARDS_AT_ONCE)))
        yield slice(start, end)
        start = end
