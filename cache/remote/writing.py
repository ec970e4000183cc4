"""Writing a store in a bucket: the writer of local stores on a mirror, with claims instead of locks.

`StoreWriter.open("s3://...")` gives a `RemoteWriter`. What it writes has the same bytes as a local store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import pyarrow as pa

from avem.cache.disk.arrays import shard_path, stream_arrays
from avem.cache.disk.encode import Rows
from avem.cache.disk.folding import are_many, fold_ledger
from avem.cache.disk.layout import LEDGER, METADATA
from avem.cache.disk.ledger import record_path
from avem.cache.records import RowDetails, Shard, StreamSpec
from avem.cache.remote.mirror import Mirror, mirror_of
from avem.cache.remote.objects import ConflictError
from avem.cache.remote.transfer import belongs
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter
from avem.errors import AvemError, StoreError

CLAIMS = f"{LEDGER}/claims"


class RemoteWriter(StoreWriter):
    """Adds clips and streams to a store in a bucket; made by `StoreWriter.open`.

    Args:
        mirror: Of the store.
    """

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror.folder)
        self._mirror = mirror

    @classmethod
    def at(cls, url: str) -> RemoteWriter:
        """Open a store to add to it, or make one where nothing is yet.

        Raises:
            StoreError: Something else is there, the store is of a newer format, or the URL can't be written.
        """
        mirror = mirror_of(url)
        with naming(mirror):
            mirror.down()
            if not (mirror.folder / METADATA).is_file():
                foreign = sorted(name for name in mirror.fetcher.list("", deep=True) if belongs(name))
                if any(not name.startswith(f"{LEDGER}/") for name in foreign):
                    raise StoreError(
                        f"{mirror.url} holds something that is not a feature store ({foreign[-1]}); give another URL."
                    )
                with mirror.exclusive():
                    StoreWriter.make(mirror.folder)
            StoreWriter.check_format(mirror.folder)
        return cls(mirror)

    @property
    def clips(self) -> pa.Table:
        """The manifest as it stands, with committed shards entered."""
        with naming(self._mirror):
            self._mirror.down()
            return super().clips

    @property
    def long(self) -> dict[str, str]:
        """See `StoreWriter.long`."""
        self._mirror.down()
        return super().long

    def column(self, stream: str) -> str:
        """See `StoreWriter.column`."""
        with naming(self._mirror):
            self._mirror.down()
            return super().column(stream)

    def check(self, spec: StreamSpec) -> None:
        """See `StoreWriter.check`."""
        with naming(self._mirror):
            self._mirror.down()
            super().check(spec)

    def remember_long(self, datasets: Collection[str], long: str) -> None:
        """See `StoreWriter.remember_long`."""
        with naming(self._mirror):
            super().remember_long(datasets, long)

    def stream(self, spec: StreamSpec) -> RemoteStreamWriter:
        """See `StoreWriter.stream`."""
        with naming(self._mirror):
            made = super().stream(spec)
            made.close()
            return RemoteStreamWriter(self._mirror, made.spec, made.column)

    def settle(self) -> None:
        """Wait, for a lease at most, until it is known which of the writers that have claims are alive."""
        with naming(self._mirror):
            self._mirror.session.settle(self._mirror.fetcher.list(CLAIMS, deep=True))

    def finish(self) -> pa.Table:
        """See `StoreWriter.finish`."""
        table = super().finish()
        self._mirror.session.sweep()
        return table

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with naming(self._mirror), self._mirror.exclusive(), super()._exclusive():
            yield


StoreWriter.open_remote = RemoteWriter.at


class RemoteStreamWriter(StreamWriter):
    """Writes the shards of one stream of a store in a bucket.

    Args:
        mirror: Of the store.
        spec: The stream, as the store has it.
        column: What the manifest and the ledger call it.
    """

    def __init__(self, mirror: Mirror, spec: StreamSpec, column: str) -> None:
        super().__init__(mirror.folder, spec, column)
        self._mirror = mirror

    def statuses(self) -> list[str]:
        """See `StreamWriter.statuses`."""
        with naming(self._mirror):
            self._mirror.down()
            return super().statuses()

    def claim(self, shard: Shard) -> bool:
        """See `StreamWriter.claim`; a claim ends with `write`, with `close`, or some time after its process."""
        if not self._locks.take(shard.index):  # another thread of this process has it
            return False
        claim = self._claim(shard.index)
        if not self._mirror.session.take(claim):
            self._locks.release(shard.index)
            return False
        with naming(self._mirror), self._mirror.committing():
            self._mirror.refresh([self._record(shard.index)])
            is_pending = super().claim(shard)
        if not is_pending:
            self._mirror.session.release(claim)
        return is_pending

    def write(
        self,
        shard: Shard,
        features: Rows,
        pooled: Rows,
        details: Sequence[RowDetails],
        companions: Mapping[str, Rows] = MappingProxyType({}),
    ) -> list[RowDetails]:
        """See `StreamWriter.write`."""
        claim, record = self._claim(shard.index), self._record(shard.index)
        if not self._locks.take(shard.index) or not self._mirror.session.take(claim):
            raise StoreError(
                f"Another writer is at shard {shard.index} of {self.spec.name} in {self._mirror.url}; wait for it."
            )
        names = self._shards(shard.index)
        try:
            with naming(self._mirror), self._mirror.committing():
                self._mirror.refresh([record])
                versions = self._stage(shard, names)
                committed = super().write(shard, features, pooled, details, companions)
                self._put(claim, record, versions)
        finally:
            for name in names:
                (self.path / name).unlink(missing_ok=True)
            self._mirror.session.release(claim)
        self._fold_remote()
        return committed

    def _fold(self) -> None:
        """Nothing yet: the record is not in the bucket; `write` folds once it is."""

    def _fold_remote(self) -> None:
        """Fold the bucket's ledger where it has many records."""
        folder = self._ledger / self.column
        if not are_many(folder):
            return
        with naming(self._mirror), self._mirror.exclusive():
            if are_many(folder):  # nobody else has folded meanwhile
                fold_ledger(self.path)

    def _stage(self, shard: Shard, names: Sequence[str]) -> dict[str, str | None]:
        """Mirror the shard's files where rows of them stay; the version of each file that is there."""
        if not self._kept(shard):
            return dict.fromkeys(names)
        versions: dict[str, str | None] = {}
        for name in names:
            found = self._mirror.bucket.get(name)
            versions[name] = None if found is None else found[1]
            if found is not None:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_bytes(found[0])
        return versions

    def _put(self, claim: str, record: str, versions: Mapping[str, str | None]) -> None:
        """Put the shard's files into the bucket and then, if the claim still holds, its record.

        A file that is there although no row of it counts is what a killed writer left, or one that lost its claim.
        """
        bucket, lost = self._mirror.bucket, f"{self._mirror.url}: another writer has taken over {claim}; run again."
        for name, version in versions.items():
            data = (self.path / name).read_bytes()
            try:
                bucket.put(name, data, version)
            except ConflictError as error:
                there = bucket.get(name)
                if version is not None or there is None or not self._mirror.session.holds(claim):
                    raise StoreError(lost) from error
                bucket.put(name, data, there[1])
        if not self._mirror.session.holds(claim):
            raise StoreError(lost)
        try:
            self._mirror.put(record)
        except ConflictError as error:
            raise StoreError(lost) from error

    def _claim(self, index: int) -> str:
        return f"{CLAIMS}/{self.column}/{index:06d}.json"

    def _record(self, index: int) -> str:
        return record_path(self._ledger, self.column, index).relative_to(self.path).as_posix()

    def _shards(self, index: int) -> list[str]:
        """The shard's file of each array, the features last."""
        arrays = stream_arrays(self.spec)
        group = self.path / self.spec.name
        paths = [shard_path(group / name, index, 1 + len(array.element_shape)) for name, array in arrays.items()]
        return [path.relative_to(self.path).as_posix() for path in reversed(paths)]


@contextmanager
def naming(mirror: Mirror) -> Iterator[None]:
    """Say in errors where the store is, rather than where its mirror is."""
    try:
        yield
    except AvemError as error:
        text = str(error.args[0]) if error.args else ""
        if str(mirror.folder) in text:
            error.args = (text.replace(str(mirror.folder), mirror.url), *error.args[1:])
        raise
