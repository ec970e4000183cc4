"""Writing one stream: which shards are missing, and committing them one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from avem.cache.disk import layout, ledger
from avem.cache.disk.encode import Rows, encode_rows
from avem.cache.disk.folding import fold_when_many
from avem.cache.disk.locks import ShardLocks, store_lock
from avem.cache.disk.stream_shards import NO_ROOM, write_stream_shards
from avem.cache.manifest.statuses import StatusReader
from avem.cache.records import FAILED, OK, PENDING, RowDetails, Shard, StreamSpec
from avem.errors import SettingError, StoreError
from avem.guards.disk import disk_reason


class StreamWriter:
    """Writes the shards of one stream; made by `StoreWriter.stream`.

    Args:
        path: The store's folder.
        spec: The stream, as the store has it.
        column: What the manifest and the ledger call it.
    """

    def __init__(self, path: Path, spec: StreamSpec, column: str) -> None:
        self.path, self.spec, self.column = path, spec, column
        self._ledger = path / layout.LEDGER
        self._statuses = StatusReader(path)
        try:
            self._locks = ShardLocks(self._ledger / f"{column}.lock")
        except OSError as error:
            raise StoreError(f"The store {path} can't be written: {disk_reason(error)}.") from error

    def statuses(self) -> list[str]:
        """Status of every row in this stream: `pending`, `ok`, or `failed: reason`."""
        return self._statuses.all(self.column)

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
        features: Rows,
        pooled: Rows,
        details: Sequence[RowDetails],
        companions: Mapping[str, Rows] = MappingProxyType({}),
    ) -> list[RowDetails]:
        """Commit the rows of one shard; rows that it held before stay as they are.

        Args:
            shard: From `pending`.
            features: [n, *row_shape] for the n rows of the shard, or a list of n tensors [n_i, C] where the length
                differs by clip; rows of failed clips are ignored, and may be None in a list.
            pooled: [n, pooled_dim]; kept L2-normalised.
            details: What became of each row.
            companions: Each of the stream's companions: [n, *row_shape], or a list of n arrays.

        Returns:
            What was committed: as given, but rows with features that can't be kept have failed.

        Raises:
            SettingError: Shapes, lengths or companions do not fit the stream or the shard.
            StoreError: Another writer is at this shard, or the disk is full or read-only.

        Example:
            >>> import tempfile, torch
            >>> from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
            >>> writer = StoreWriter.open(tempfile.mkdtemp())
            >>> rows = writer.add_clips([ClipRecord("mine/1", "mine", "1.mp4", sha256="0" * 64)], ".")
            >>> stream = writer.stream(StreamSpec("video", "patches", {}, (None, 2), 2))
            >>> for shard in stream.pending():
            ...     committed = stream.write(shard, [torch.ones(3, 2)], torch.ones(1, 2), [RowDetails()])
            >>> FeatureStore.open(writer.path).stream("video/patches").rows([0])[0].shape
            torch.Size([3, 2])
        """
        self._check(shard, len(features), len(pooled), details)
        encoded = encode_rows(self.spec, features, pooled, companions)
        committed = [
            RowDetails("failed", problem) if item.status == OK and problem else item
            for item, problem in zip(details, encoded.problems, strict=True)
        ]
        if not self._locks.take(shard.index):
            raise StoreError(
                f"Another writer is at shard {shard.index} of {self.spec.name} in {self.path}; wait for it."
            )
        try:
            good = [index for index, item in enumerate(committed) if item.status == OK]
            without = write_stream_shards(
                self.path / self.spec.name, self.spec, shard, encoded, good, kept=self._kept(shard)
            )
            for index in without:
                committed[index] = RowDetails("failed", NO_ROOM)
            self._commit(shard, committed)
        except OSError as error:
            raise StoreError(f"The store {self.path} can't be written: {disk_reason(error)}.") from error
        finally:
            self._locks.release(shard.index)
        self._fold()
        return committed

    def _fold(self) -> None:
        """Fold the ledger where it has many records; called without holding the store."""
        fold_when_many(self.path, self.column)

    def _check(self, shard: Shard, features: int, pooled: int, details: Sequence[RowDetails]) -> None:
        rows, size = list(shard.rows), self.spec.rows_per_shard
        if not len(rows) == features == pooled == len(details):
            raise SettingError(
                f"Shard {shard.index} has {len(rows)} rows but came with {features} features, {pooled} pooled vectors "
                f"and {len(details)} details."
            )
        if not rows or rows != sorted(set(rows)) or {row // size for row in rows} != {shard.index}:
            raise SettingError(f"The rows {rows} are not ascending rows of shard {shard.index} ({size} rows a shard).")

    def _kept(self, shard: Shard) -> list[int]:
        """Slots of the rows that the shard holds already and that stay."""
        first, statuses = shard.index * self.spec.rows_per_shard, self._shard_statuses(shard.index)
        if len(statuses) <= shard.rows[-1] - first:
            raise SettingError(f"Row {shard.rows[-1]} is not in the manifest of {self.path}; add its clip first.")
        written = set(shard.rows)
        return [slot for slot, status in enumerate(statuses) if status == OK and first + slot not in written]

    def _commit(self, shard: Shard, committed: Sequence[RowDetails]) -> None:
        rows = dict(zip(shard.rows, committed, strict=True))
        with store_lock(self._ledger, exclusive=False):
            old = ledger.read_record(self._ledger, self.column, shard.index)
            merged = {**(old.rows if old else {}), **rows}
            ledger.write_record(self._ledger, ledger.ShardRecord(self.column, shard.index, merged))

    def _shard_statuses(self, index: int) -> list[str]:
        """Status of the rows of one shard, as `statuses` has them."""
        record = ledger.read_record(self._ledger, self.column, index)
        first = index * self.spec.rows_per_shard
        statuses = self._statuses.some(self.column, first, first + self.spec.rows_per_shard)
        for row, details in record.rows.items() if record else ():
            statuses[row - first] = details.manifest_status
        return statuses
