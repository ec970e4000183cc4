"""Reading rows of one array: plain byte ranges where they are that, Zarr everywhere else."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from avem.cache.disk.arrays import shard_path
from avem.cache.disk.location import Location
from avem.cache.disk.shards import LARGE_ROW, RowBytes, RowError, ShardFile
from avem.cache.remote.rows import RemoteRows
from avem.errors import StoreError
from avem.systems import usable_cores

OPEN_SHARDS = 256
"""Shards that a reader keeps open at once, least recently used dropped first."""

FROM_MEMORY_BYTES_PER_S = 2.5e9
"""Reading that is slower waits for a disk."""

INT8_BYTES_AT_ONCE = 2**28
"""Bytes of int8 rows that are read from a remote store before they are decoded."""

MOST_THREADS = 8
BYTES_PER_THREAD = 2**24
"""Least that a thread reads, so that starting it pays off."""


class RowReader(Protocol):
    """Copies rows of an array into a buffer."""

    def read_into(self, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
        """Read rows, int64 [R], as bytes into a buffer, uint8 [R, row bytes].

        Raises:
            RowError: A row can't be read, or is not what was written.
        """

    def row(self, row: int, row_bytes: int) -> RowBytes:
        """One row's bytes, uint8 [row bytes], to look at; a view where that is possible.

        Raises:
            RowError: It can't be read, or is not what was written.
        """
        ...


Shard = TypeVar("Shard")


class OpenShards(Generic[Shard]):
    """Shards that stay open between reads, so many at once; threads may share them.

    Args:
        open_shard: Opens one by its number.
    """

    def __init__(self, open_shard: Callable[[int], Shard]) -> None:
        self._open_shard = open_shard
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, index: int, *, afresh: bool = False) -> Shard:
        """A shard.

        Args:
            index: Its number.
            afresh: Open it again, because the file may be another one now.
        """
        with self._guard:
            shard = None if afresh else self._open.get(index)
            if shard is None:
                shard = self._open[index] = self._open_shard(index)
                if len(self._open) > OPEN_SHARDS:
                    self._open.popitem(last=False)
            self._open.move_to_end(index)
            return shard


class ByteRangeRows:
    """Rows of an array on a local disk, copied from where their shards are mapped into memory.

    Threads may share one, and a forked process may keep using its parent's.

    Args:
        array: The array's folder.
        rows_per_shard: Row slots of a shard.
        axes: Axes of the array.
        check: Whether to compare each row with its checksum.
    """

    def __init__(self, array: Path, rows_per_shard: int, axes: int, *, check: bool = True) -> None:
        self._array, self._slots, self._axes, self._check = array, rows_per_shard, axes, check
        self._open = OpenShards(lambda index: ShardFile(shard_path(array, index, axes), rows_per_shard))
        self._from_disk = True

    def read_into(self, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
        """See `RowReader`."""
        start = time.perf_counter()
        indices, slots = np.divmod(rows, self._slots)
        if buffer.shape[1] >= LARGE_ROW:
            self._advise(indices, slots)
        ends = [*(np.flatnonzero(np.diff(indices)) + 1).tolist(), len(rows)]
        for first, end in pairwise([0, *ends] if len(rows) else []):
            with self._naming(int(indices[first]), int(rows[first])):
                shard = self._shard_with(int(indices[first]), slots[first:end])
                shard.take(slots[first:end], buffer[first:end], check=self._check)
        self._from_disk = buffer.size < FROM_MEMORY_BYTES_PER_S * (time.perf_counter() - start)

    def row(self, row: int, row_bytes: int) -> RowBytes:
        """See `RowReader`."""
        index, slot = divmod(row, self._slots)
        with self._naming(index, row):
            return self._shard_with(index, np.array([slot])).row(slot, row_bytes, check=self._check)

    @contextmanager
    def _naming(self, index: int, row: int) -> Iterator[None]:
        """Turn what is wrong in a shard into an error that knows the row of the array.

        Args:
            index: The shard.
            row: A row in it, for damage of the whole shard.
        """
        try:
            yield
        except RowError as error:
            raise RowError(index * self._slots + error.row, error.problem) from error
        except StoreError as error:
            path = shard_path(self._array, index, self._axes)
            raise RowError(row, f"stands in {path}, which is missing, truncated or damaged") from error

    def _advise(self, indices: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]) -> None:
        """Let a disk see all of its work at once, which keeps it busy; in memory already, asking costs a fifth."""
        if self._from_disk:
            for index, slot in zip(indices.tolist(), slots.tolist(), strict=True):
                with self._naming(index, index * self._slots + slot):
                    self._open.get(index).advise(slot)

    def _shard_with(self, index: int, slots: npt.NDArray[np.int64]) -> ShardFile:
        shard = self._open.get(index)
        if not shard.holds(slots):  # the file may have been replaced by one with more rows
            shard = self._open.get(index, afresh=True)
        return shard


class Int8Rows:
    """int8 rows with a scale per token, read as float16.

    Args:
        features: Reads int8 rows.
        scale: Reads their scales, float32.
        row_shape: Shape of one row of features, channels last.
    """

    def __init__(self, features: RowReader, scale: RowReader, row_shape: tuple[int, ...]) -> None:
        self._features, self._scale = features, scale
        self._tokens, self._channels = math.prod(row_shape[:-1]), row_shape[-1]

    def read_into(self, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
        """See `RowReader`; the buffer takes float16."""
        from avem.cache.disk.quantise import (
            dequantise_tokens,  # compiling takes a second that other types need not wait for
        )

        shape = self._tokens, self._channels
        for first, tokens, scales in self._parts(rows):
            for number, (row, scale) in enumerate(zip(tokens, scales, strict=True), start=first):
                out = buffer[number].view(np.uint16).reshape(shape)
                dequantise_tokens(row.view(np.int8).reshape(shape), scale.view(np.float32), out)

    def _parts(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, Sequence[RowBytes], Sequence[RowBytes]]]:
        """Position of a first row, and the tokens and scales of some rows: many at once where each is a request."""
        sizes = self._tokens * self._channels, self._tokens * 4
        if not isinstance(self._features, RemoteRows):
            for number, row in enumerate(rows.tolist()):
                yield number, [self._features.row(row, sizes[0])], [self._scale.row(row, sizes[1])]
            return
        step = max(INT8_BYTES_AT_ONCE // sizes[0], 1)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            found = [np.empty((len(part), size), dtype=np.uint8) for size in sizes]
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(_read_into, (self._features, self._scale), (part, part), found))
            yield first, list(found[0]), list(found[1])

    def row(self, row: int, row_bytes: int) -> RowBytes:
        """See `RowReader`; float16."""
        out = np.empty(row_bytes, dtype=np.uint8)
        self.read_into(np.array([row]), out[None])
        return out


def _read_into(reader: RowReader, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
    reader.read_into(rows, buffer)


class ZarrRows:
    """Rows through zarr-python: compressed or rearranged arrays.

    zarr-python gives the fill value for a chunk that is not there. avem writes every row that it reports, so that is
    a lost chunk.

    Args:
        location: The store.
        name: The array's path in it.
    """

    def __init__(self, location: Location, name: str) -> None:
        self._location, self._name = location, name
        self._array = location.zarr_array(name)

    def read_into(self, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
        """See `RowReader`."""
        for row, target in zip(rows.tolist(), buffer, strict=True):
            target[:] = self.row(row, buffer.shape[1])

    def row(self, row: int, row_bytes: int) -> RowBytes:
        """See `RowReader`."""
        try:
            data = np.ascontiguousarray(self._array[row]).reshape(-1).view(np.uint8)
        except Exception as error:  # every codec and every protocol has errors of its own
            where = f"{self._location.url}/{self._name}"
            raise RowError(row, f"can't be read from {where} ({str(error) or type(error).__name__})") from error
        if len(data) != row_bytes:
            raise RowError(row, f"is {len(data)} bytes long in {self._name} where {row_bytes} were written")
        if not data.any() and self._is_lost(row):
            raise RowError(row, f"has lost its chunk of {self._location.url}/{self._name}")
        return data

    def _is_lost(self, row: int) -> bool:
        """Whether the chunk, or the shard, that a row should be in is not there."""
        slots, *sizes = self._array.shards or self._array.chunks
        counts = [range(-(-length // size)) for length, size in zip(self._array.shape[1:], sizes, strict=True)]
        keys = [self._array.metadata.encode_chunk_key((row // slots, *rest)) for rest in product(*counts)]
        return not all(self._location.exists(f"{self._name}/{key}") for key in keys)


def read_in_parallel(reader: RowReader, rows: npt.NDArray[np.int64], buffer: RowBytes) -> None:
    """Read rows with as many threads as pay off, none of which outlives the call.

    Raises:
        RowError: A row can't be read, or is not what was written.
    """
    if isinstance(reader, RemoteRows):  # asks for all at once by itself
        reader.read_into(rows, buffer)
        return
    threads = min(usable_cores(), MOST_THREADS, buffer.size // BYTES_PER_THREAD)
    if threads < 2:
        reader.read_into(rows, buffer)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(reader.read_into, np.array_split(rows, threads), np.array_split(buffer, threads)))


def row_buffer(rows: int, row_shape: tuple[int, ...], dtype: torch.dtype, *, pin: bool) -> torch.Tensor:
    """An uninitialised tensor [rows, *row_shape], in pinned memory if asked."""
    return torch.empty((rows, *row_shape), dtype=dtype, pin_memory=pin)
