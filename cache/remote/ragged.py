"""Rows whose length differs by clip, from an array behind a URL: all rows of a call asked for together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from avem.cache.disk.arrays import ArraySpec
from avem.cache.disk.ragged import DISAGREE, RowSpan, chunk_range, copy_chunks
from avem.cache.disk.shards import CRC_BYTES, MISSING, RowBytes, RowError, ShardIndex
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.indexes import ShardIndexes
from avem.cache.remote.ranges import Range
from avem.errors import StoreError

BYTES_AT_ONCE = 2**28
"""Rows of a call are fetched in batches of so many bytes, which bounds the memory beside the caller's buffers."""


class RemoteRagged:
    """Rows of a flat array of plain byte ranges in a remote store.

    Threads may share one, forked processes may keep using it, and it can be pickled.

    Args:
        fetcher: Reads the store.
        name: The array's path in the store.
        array: What it holds.
        check: Whether to compare each chunk with its checksum.
    """

    def __init__(self, fetcher: Fetcher, name: str, array: ArraySpec, *, check: bool = True) -> None:
        self._array, self._check = array, check
        self._chunk_bytes = array.chunk * array.element_bytes
        slots = array.grid[0] // array.chunk
        self._indexes = ShardIndexes(fetcher, name, slots, 1 + len(array.element_shape))

    def read_into(self, spans: Sequence[RowSpan], outs: Sequence[RowBytes]) -> None:
        """Read rows, in tokens, each into its buffer, uint8 [row bytes], all at once.

        Raises:
            RowError: A row can't be read, or is not what was written.
        """
        for first, end in _batches([len(out) for out in outs]):
            wanted = range(first, end)
            problems = self._attempt(wanted, spans, outs, fresh=False)
            if problems:  # a shard may have been replaced since its index was read, or what is kept be of no use
                problems = self._attempt(sorted(problems), spans, outs, fresh=True)
            if problems:
                raise problems[min(problems)]

    def problems(self, spans: Sequence[RowSpan]) -> dict[int, str]:
        """What is wrong with rows, by row, as they are on the server; sound rows are left out."""
        element = self._array.fold * self._array.element_bytes
        sizes = [(span.stop - span.start) * element for span in spans]
        found: dict[int, str] = {}
        for first, end in _batches(sizes):
            outs = {position: np.empty(sizes[position], dtype=np.uint8) for position in range(first, end)}
            wrong = self._attempt(range(first, end), spans, outs, fresh=True)
            found.update({spans[position].row: error.problem for position, error in wrong.items()})
        return found

    def _attempt(
        self,
        wanted: Iterable[int],
        spans: Sequence[RowSpan],
        outs: Sequence[RowBytes] | Mapping[int, RowBytes],
        *,
        fresh: bool,
    ) -> dict[int, RowError]:
        """Read some of the rows; what is wrong with those that could not be read, by their position."""
        shards = {position: spans[position].row // self._array.rows_per_shard for position in wanted}
        indexes = self._indexes.load(sorted(set(shards.values())), fresh=fresh)
        problems: dict[int, RowError] = {}
        pieces: dict[int, list[memoryview]] = {}
        ranges: list[Range] = []
        of: list[tuple[int, int]] = []
        for position, shard in shards.items():
            row = spans[position].row
            if shard not in indexes:
                problems[position] = self._indexes.damaged(row, shard)
                continue
            entries = self._entries(spans[position], shard, indexes[shard])
            if entries is None:
                problems[position] = RowError(row, DISAGREE.format(path=self._indexes.url(shard)))
                continue
            runs = _runs(entries)
            pieces[position] = [memoryview(b"")] * len(runs)
            of += [(position, piece) for piece in range(len(runs))]
            ranges += [(self._indexes.shard(shard), start, stop) for start, stop in runs]
        missing = {position: len(parts) for position, parts in pieces.items()}
        for number, data in self._indexes.fetcher.each(ranges, fresh=fresh):
            position, piece = of[number]
            row, shard = spans[position].row, shards[position]
            if isinstance(data, StoreError):
                problems[position] = self._indexes.explained(row, shard, data)
                continue
            _, start, stop = ranges[number]
            if len(data) < (stop or 0) - start:
                problems[position] = RowError(row, f"was lost when {self._indexes.url(shard)} was truncated")
            pieces[position][piece] = data
            missing[position] -= 1
            if missing[position] == 0 and position not in problems:
                try:
                    chunks = self._chunks(pieces.pop(position))
                    copy_chunks(chunks, outs[position], self._chunk_bytes, check=self._check)
                except RowError as error:
                    problems[position] = RowError(row, error.problem)
        return problems

    def _entries(self, span: RowSpan, shard: int, index: ShardIndex) -> ShardIndex | None:
        """Offset and length of each of a row's chunks; None where some are not there or of another size."""
        base = shard * self._array.shard_tokens
        first, end = chunk_range(self._array, (span.start - base, span.stop - base))
        entries = index[first:end]
        is_there = len(entries) == end - first > 0 and (entries[:, 0] != MISSING).all()
        return entries if is_there and (entries[:, 1] == self._chunk_bytes + CRC_BYTES).all() else None

    def _chunks(self, pieces: Sequence[memoryview]) -> Iterator[RowBytes]:
        stride = self._chunk_bytes + CRC_BYTES
        for piece in pieces:
            source = np.frombuffer(piece, dtype=np.uint8)
            for start in range(0, len(source), stride):
                yield source[start : start + stride]


def _runs(entries: ShardIndex) -> list[tuple[int, int]]:
    """Ranges of a file that hold chunks in their order: one where the chunks follow each other, as avem writes them."""
    runs: list[tuple[int, int]] = []
    for offset, length in entries.tolist():
        if runs and runs[-1][1] == offset:
            runs[-1] = runs[-1][0], offset + length
        else:
            runs.append((offset, offset + length))
    return runs


def _batches(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and end of rows that are fetched together, given their bytes."""
    first, total = 0, 0
    for position, size in enumerate(sizes):
        if total and total + size > BYTES_AT_ONCE:
            yield first, position
            first, total = position, 0
        total += size
    if first < len(sizes):
        yield first, len(sizes)
