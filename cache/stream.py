"""Writing one stream: which shards are missing, and committing them one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from avem.cache.disk import layout, ledger
from avem.cache.disk.encode import EncodedRows, encode_rows
from avem.cache.disk.folding import fold_when_many
from avem.cache.disk.locks import ShardLocks, store_lock
from avem.cache.disk.shards import ShardFile, write_shard
from avem.cache.disk.statuses import StatusReader
from avem.cache.records import FAILED, OK, PENDING, RowDetails, Shard, StreamSpec
from avem.errors import SettingError, StoreError
from avem.guards.disk import disk_reason

UNFIT = "features hold NaN or infinity, or are too large for {dtype}"


class StreamWriter:
    """Writes the shards of one stream; made by `StoreWriter.stream`."""

    def __init__(self, path: Path, spec: StreamSpec) -> None:
        self.path, self.spec = path, spec
        self._ledger = path / layout.LEDGER
        self._statuses = StatusReader(path)
        try:
            self._locks = ShardLocks(self._ledger / f"{spec.kind}.lock")
        except OSError as error:
            raise StoreError(f"The store {path} can't be written: {disk_reason(error)}.") from error

    def statuses(self) -> list[str]:
        """Status of every row in this stream: `pending`, `ok`, or `failed: reason`."""
        return self._statuses.all(self.spec.kind)

    def pending(self, *, retry_failed: bool = False) -> Iterator[Shard]:
        """The shards that still have rows to write, in order.

        Args:
            retry_failed: Count failed rows as still to be written.
        """
        again = (PENDING, FAILED) if retry_failed else (PENDING,)
        statuses = self.statuses()
        size = self.spec.rows_per_shard
        for index in range(math.ceil(len(statuses) / size)):
            first = index * size
            rows = [first + i for i, status in enumerate(statuses[first : first + size]) if status.startswith(again)]
            if rows:
                whole = range(rows[0], rows[-1] + 1)
                yield Shard(index, whole if len(whole) == len(rows) else rows)

    def claim(self, shard: Shard) -> bool:
        """Become the owner of a shard, so that writers at work on the same store share it out.

        Returns:
            False if another writer owns it, or none of its rows is pending any more. A claim ends with `write` or with
            the process.
        """
        if not self._locks.take(shard.index):
            return False
        first = shard.index * self.spec.rows_per_shard
        statuses = self._shard_statuses(shard.index)
        if not any(statuses[row - first] == PENDING for row in shard.rows):
            self._locks.release(shard.index)
            return False
        return True

    def close(self) -> None:
        """Give up every claim; the writer is of no further use."""
        self._locks.close()

    def write(
        self,
        shard: Shard,
        features: torch.Tensor | npt.NDArray[np.floating],
        pooled: torch.Tensor | npt.NDArray[np.floating],
        details: Sequence[RowDetails],
    ) -> list[RowDetails]:
        """Commit the rows of one shard; rows that it held before stay as they are.

        Args:
            shard: From `pending`.
            features: [n, *row_shape] for the n rows of the shard; rows of failed clips are ignored.
            pooled: [n, pooled_dim]; kept L2-normalised.
            details: What became of each row.

        Returns:
            What was committed: as given, but rows with features that can't be kept have failed.

        Raises:
            SettingError: Shapes or lengths do not fit the stream or the shard.
            StoreError: Another writer is at this shard, or the disk is full or read-only.
        """
        self._check(shard, len(features), len(pooled), details)
        encoded = encode_rows(self.spec, features, pooled)
        reason = UNFIT.format(dtype=self.spec.dtype)
        committed = [
            RowDetails("failed", reason) if item.status == OK and not finite else item
            for item, finite in zip(details, encoded.finite, strict=True)
        ]
        if not self._locks.take(shard.index):
            raise StoreError(
                f"Another writer is at shard {shard.index} of {self.spec.kind} in {self.path}; wait for it."
            )
        try:
            self._write_arrays(shard, encoded, committed)
            self._commit(shard, committed)
        except OSError as error:
            raise StoreError(f"The store {self.path} can't be written: {disk_reason(error)}.") from error
        finally:
            self._locks.release(shard.index)
        fold_when_many(self.path, self.spec.kind)
        return committed

    def _check(self, shard: Shard, features: int, pooled: int, details: Sequence[RowDetails]) -> None:
        rows, size = list(shard.rows), self.spec.rows_per_shard
        if not len(rows) == features == pooled == len(details):
            raise SettingError(
                f"Shard {shard.index} has {len(rows)} rows but came with {features} features, {pooled} pooled vectors "
                f"and {len(details)} details."
            )
        if not rows or rows != sorted(set(rows)) or {row // size for row in rows} != {shard.index}:
            raise SettingError(f"The rows {rows} are not ascending rows of shard {shard.index} ({size} rows a shard).")

    def _write_arrays(self, shard: Shard, encoded: EncodedRows, committed: Sequence[RowDetails]) -> None:
        """Rewrite each array's shard: the rows committed before, unchanged, then these."""
        size, first = self.spec.rows_per_shard, shard.index * self.spec.rows_per_shard
        statuses = self._shard_statuses(shard.index)
        if len(statuses) <= shard.rows[-1] - first:
            raise SettingError(f"Row {shard.rows[-1]} is not in the manifest of {self.path}; add its clip first.")
        kept = [slot for slot, status in enumerate(statuses) if status == OK and first + slot not in shard.rows]
        group = self.path / layout.stream_group(self.spec.kind, self.spec.encoder)

        def write(name: str, row_shape: tuple[int, ...]) -> None:
            path = layout.shard_path(group / name, shard.index, 1 + len(row_shape))
            old = ShardFile(path, size) if kept and path.exists() else None  # else its rows are lost already
            rows: dict[int, bytes | memoryview] = {slot: old.raw(slot) for slot in kept} if old else {}
            for row, data, item in zip(shard.rows, encoded.arrays[name], committed, strict=True):
                if item.status == OK:
                    rows[row - first] = memoryview(data)
            write_shard(path, size, encoded.arrays[name].shape[1], rows)

        shapes = {name: row_shape for name, (row_shape, _) in layout.stream_arrays(self.spec).items()}
        with ThreadPoolExecutor(len(shapes), "arrays") as pool:  # each waits for the disk for most of its time
            list(pool.map(write, shapes, shapes.values()))

    def _commit(self, shard: Shard, committed: Sequence[RowDetails]) -> None:
        rows = dict(zip(shard.rows, committed, strict=True))
        with store_lock(self._ledger, exclusive=False):
            old = ledger.read_record(self._ledger, self.spec.kind, shard.index)
            merged = {**(old.rows if old else {}), **rows}
            ledger.write_record(self._ledger, ledger.ShardRecord(self.spec.kind, shard.index, merged))

    def _shard_statuses(self, index: int) -> list[str]:
        """Status of the rows of one shard, as `statuses` has them."""
        record = ledger.read_record(self._ledger, self.spec.kind, index)
        first = index * self.spec.rows_per_shard
        statuses = self._statuses.some(self.spec.kind, first, first + self.spec.rows_per_shard)
        for row, details in record.rows.items() if record else ():
            statuses[row - first] = details.manifest_status
        return statuses
