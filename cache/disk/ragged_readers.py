"""Reading rows whose length differs by clip: from mapped shards where they are avem's, through Zarr everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from avem.cache.disk.arrays import ArraySpec, shard_path
from avem.cache.disk.location import Location
from avem.cache.disk.ragged import DISAGREE, RaggedShardFile
from avem.cache.disk.ragged import RowSpan as RowSpan
from avem.cache.disk.readers import BYTES_PER_THREAD, MOST_THREADS, OpenShards
from avem.cache.disk.shards import RowBytes, RowError
from avem.cache.remote.ragged import RemoteRagged
from avem.errors import StoreError
from avem.systems import usable_cores


class RaggedReader(Protocol):
    """Copies rows of a flat array into buffers."""

    def read_into(self, spans: Sequence[RowSpan], outs: Sequence[RowBytes]) -> None:
        """Read rows, in tokens, each into its buffer, uint8 [row bytes].

        Raises:
            RowError: A row can't be read, or is not what was written.
        """


class RaggedRows:
    """Rows of a flat array on a local disk, copied from where their shards are mapped into memory.

    Threads may share one, and a forked process may keep using its parent's.

    Args:
        folder: The array's folder.
        array: What it holds.
        check: Whether to compare each chunk with its checksum.
    """

    def __init__(self, folder: Path, array: ArraySpec, *, check: bool = True) -> None:
        self._folder, self._array, self._check = folder, array, check
        axes = 1 + len(array.element_shape)
        self._open = OpenShards(lambda index: RaggedShardFile(shard_path(folder, index, axes), array))

    def read_into(self, spans: Sequence[RowSpan], outs: Sequence[RowBytes]) -> None:
        """See `RaggedReader`."""
        for span, out in zip(spans, outs, strict=True):
            index = span.row // self._array.rows_per_shard
            base = index * self._array.shard_tokens
            local = span.start - base, span.stop - base
            try:
                shard = self._open.get(index)
                if not shard.holds(local):  # the file may have been replaced by one with more rows
                    shard = self._open.get(index, afresh=True)
                shard.take(local, out, check=self._check)
            except RowError as error:
                raise RowError(span.row, error.problem) from error
            except StoreError as error:
                path = shard_path(self._folder, index, 1 + len(self._array.element_shape))
                raise RowError(span.row, f"stands in {path}, which is missing, truncated or damaged") from error


class RaggedZarrRows:
    """Rows of a flat array through zarr-python: compressed or rearranged arrays.

    Args:
        location: The store.
        name: The array's path in it.
        array: What it holds.
    """

    def __init__(self, location: Location, name: str, array: ArraySpec) -> None:
        self._where, self._array = f"{location.url}/{name}", array
        self._zarr = location.zarr_array(name)

    def read_into(self, spans: Sequence[RowSpan], outs: Sequence[RowBytes]) -> None:
        """See `RaggedReader`."""
        for span, out in zip(spans, outs, strict=True):
            try:
                values = self._zarr[span.start * self._array.fold : span.stop * self._array.fold]
                data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            except Exception as error:  # every codec and every protocol has errors of its own
                reason = str(error) or type(error).__name__
                raise RowError(span.row, f"can't be read from {self._where} ({reason})") from error
            if len(data) != len(out):
                raise RowError(span.row, DISAGREE.format(path=self._where))
            out[:] = data


def read_ragged(reader: RaggedReader, spans: Sequence[RowSpan], outs: Sequence[RowBytes]) -> None:
    """Read rows with as many threads as pay off, none of which outlives the call.

    Raises:
        RowError: A row can't be read, or is not what was written.
    """
    if isinstance(reader, RemoteRagged):  # asks for all at once by itself
        reader.read_into(spans, outs)
        return
    ends = np.cumsum([len(out) for out in outs], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    threads = min(usable_cores(), MOST_THREADS, total // BYTES_PER_THREAD, len(spans))
    if threads < 2:
        reader.read_into(spans, outs)
        return
    cuts = [0, *(int(np.searchsorted(ends, total * part // threads)) + 1 for part in range(1, threads)), len(spans)]
    parts = [slice(first, end) for first, end in pairwise(cuts) if first < end]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(reader.read_into, [spans[part] for part in parts], [outs[part] for part in parts]))
