"""Reading rows of one array: plain byte ranges where they are that, Zarr everywhere else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import zarr

from avem.cache.layout import array_metadata, shard_path
from avem.cache.shards import ShardFile
from avem.errors import StoreError

OPEN_SHARDS = 256
"""Shards that a reader keeps open at once, least recently used dropped first."""


class RowReader(Protocol):
    """Copies rows of an array into a buffer."""

    def read_into(self, rows: npt.NDArray[np.int64], buffer: npt.NDArray[np.uint8]) -> None:
        """Read rows, int64 [R], as bytes into a buffer, uint8 [R, row bytes].

        Raises:
            StoreError: A row can't be read.
        """


class ByteRangeRows:
    """Rows of an array on a local disk, each read by one positioned read straight into its place.

    Threads may share one, and a forked process may go on using its parent's.
    """

    def __init__(self, array: Path, rows_per_shard: int, axes: int) -> None:
        self._array, self._slots, self._axes = array, rows_per_shard, axes
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
        self._guard = threading.Lock()

    def read_into(self, rows: npt.NDArray[np.int64], buffer: npt.NDArray[np.uint8]) -> None:
        """See `RowReader`."""
        for row, place in zip(rows.tolist(), buffer, strict=True):
            index, slot = divmod(row, self._slots)
            shard = self._shard(index)
            if not shard.holds(slot):  # the file may have been replaced by one with more rows
                shard = self._shard(index, afresh=True)
            shard.read_into(slot, memoryview(place))

    def _shard(self, index: int, *, afresh: bool = False) -> ShardFile:
        with self._guard:
            shard = None if afresh else self._open.get(index)
            if shard is None:
                shard = ShardFile(shard_path(self._array, index, self._axes), self._slots)
                self._open[index] = shard
                if len(self._open) > OPEN_SHARDS:
                    self._open.popitem(last=False)
            self._open.move_to_end(index)
            return shard


class ZarrRows:
    """Rows through zarr-python: remote, compressed, or rearranged arrays."""

    def __init__(self, array: zarr.Array[Any], where: str) -> None:
        self._array, self._where = array, where

    def read_into(self, rows: npt.NDArray[np.int64], buffer: npt.NDArray[np.uint8]) -> None:
        """See `RowReader`."""
        for row, place in zip(rows.tolist(), buffer, strict=True):
            try:
                data = np.ascontiguousarray(self._array[row])
            except (ValueError, OSError, RuntimeError) as error:
                raise StoreError(
                    f"Row {row} of {self._where} can't be read ({error}); run `avem cache verify`."
                ) from error
            place[:] = data.reshape(-1).view(np.uint8)


def is_byte_ranges(metadata: dict[str, Any]) -> bool:
    """Whether an array's Zarr metadata describes shards of whole uncompressed rows, as avem writes them."""
    try:
        rows, *row_shape = metadata["shape"]
        slots = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        ours = array_metadata(rows, tuple(row_shape), metadata["data_type"], slots, {})
    except (KeyError, IndexError, TypeError):
        return False
    parts = ("chunk_grid", "chunk_key_encoding", "codecs")
    return all(metadata.get(part) == ours[part] for part in parts)


def row_buffer(rows: int, row_shape: tuple[int, ...], dtype: torch.dtype, *, pin: bool) -> torch.Tensor:
    """An uninitialised tensor [rows, *row_shape], in pinned memory if asked."""
    return torch.empty((rows, *row_shape), dtype=dtype, pin_memory=pin)
