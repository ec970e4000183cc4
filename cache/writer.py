"""Making a store and adding clips to it; `avem.cache.stream` writes their features."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from avem.cache.decoders import as_stored, with_decoder
from avem.cache.disk import layout, ledger
from avem.cache.disk.arrays import spec_attributes, spec_from_metadata, stream_arrays
from avem.cache.disk.location import Location
from avem.cache.disk.locks import store_lock
from avem.cache.disk.manifest import (
    LEARNED_COLUMNS,
    RESTORE,
    Columns,
    append_clips,
    edited_rows,
    is_stream_column,
    manifest_columns,
    manifest_table,
    read_manifest,
    write_manifest,
)
from avem.cache.disk.sweep import sweep
from avem.cache.entering import enter_replaced, fresh_clips, refuse_foreign
from avem.cache.negatives.staleness import date_negatives, labels_digest
from avem.cache.records import FAILED, OK, PENDING, ClipRecord, StreamSpec
from avem.cache.relabel import correct, corrections
from avem.cache.stream import StreamWriter
from avem.errors import FingerprintError, StoreError, UnknownClipError
from avem.guards.disk import disk_reason
from avem.records import Clip


class StoreWriter:
    """Adds clips and streams to a store; made by `open`. Several writers may work on one store at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ledger = path / layout.LEDGER
        self._edited: set[int] = set()

    @classmethod
    def open(cls, path: str | Path) -> StoreWriter:
        """Open a store to add to it, or make one where nothing is yet.

        Args:
            path: The store's folder on this machine; its parents are made too.

        Raises:
            StoreError: The folder holds something else, the store is of a newer format, or it can't be written.
        """
        path = Path(path).expanduser()
        if "://" in str(path) or ":/" in str(path):
            raise StoreError(f"{path} is a URL; stores are written on a local disk and copied from there.")
        if not (path / layout.METADATA).is_file():
            refuse_foreign(path)
            attributes = {"avem": {"format_version": layout.FORMAT_VERSION, "roots": {}, "streams": {}}}
            try:
                with store_lock(path / layout.LEDGER, exclusive=True):
                    if not (path / layout.METADATA).is_file():  # another writer may have made it meanwhile
                        layout.write_root(path, layout.group_metadata(attributes))
            except OSError as error:
                raise StoreError(f"A feature store can't be made at {path}: {disk_reason(error)}.") from error
        layout.store_attributes(layout.read_metadata(path), str(path))
        return cls(path)

    @property
    def clips(self) -> pa.Table:
        """The manifest as it stands, with committed shards entered."""
        records = ledger.read_records(Location.parse(self.path))
        table = self._table()
        if not records:
            return table
        columns = manifest_columns(table)
        ledger.fold(columns, records)
        return manifest_table(columns, table["check"])

    def add_clips(self, records: Sequence[ClipRecord], root: str | Path) -> npt.NDArray[np.int64]:
        """Enter clips into the manifest; clips that are there already keep their row.

        A file that failed and was replaced, such as a truncated one that was fetched again, is entered with its new
        content and is to be extracted.

        Args:
            records: The clips; ids are unique.
            root: Folder that their paths are relative to, remembered per dataset.

        Returns:
            Row of each clip, int64 [clips].

        Raises:
            StoreError: A clip's features are there but were made of another content, or the records name one clip
                twice with two contents.
        """
        with self._exclusive():
            columns = self._fold()
            known = {clip_id: row for row, clip_id in enumerate(columns["clip_id"])}
            replaced = enter_replaced(records, known, columns)
            fresh = fresh_clips(records, known, columns["sha256"], self.path)
            if fresh or replaced:
                append_clips(columns, fresh)
                self._write_manifest(columns)
            self._remember_roots(records, Path(root).expanduser().resolve())
            self._grow_arrays(len(columns["clip_id"]))
        return np.array([known[record.clip_id] for record in records], dtype=np.int64)

    @property
    def long(self) -> dict[str, str]:
        """Dataset to what its clips longer than 30 s are to become: `cut` or `windows`, where a run was told."""
        attributes = layout.store_attributes(layout.read_metadata(self.path), str(self.path))
        return dict(attributes.get("long", {}))

    def remember_long(self, datasets: Collection[str], long: str) -> None:
        """Keep what clips longer than 30 s become, so that later runs need not be told again.

        Args:
            datasets: Whose clips.
            long: `cut` or `windows`.
        """
        with self._exclusive():
            metadata = layout.read_metadata(self.path)
            attributes = metadata["attributes"]["avem"]
            told = {**attributes.get("long", {}), **dict.fromkeys(datasets, long)}
            if told != attributes.get("long", {}):
                attributes["long"] = told
                layout.write_metadata(self.path, metadata)

    def relabel(self, clips: Sequence[Clip]) -> int:
        """Enter labels, splits and sources that a dataset has corrected; negatives mined before become stale.

        Args:
            clips: The dataset's clips; those that the store does not hold are skipped.

        Returns:
            How many of the store's clips have changed.
        """
        with self._exclusive():
            columns = self._fold()
            changed = corrections(clips, columns)
            if changed:
                date_negatives(self.path, labels_digest(columns), len(columns["clip_id"]))
                correct(columns, changed)
                self._write_manifest(columns)
        return len(changed)

    def stream(self, spec: StreamSpec) -> StreamWriter:
        """Make a stream's arrays, or check that those there were made the same way.

        Args:
            spec: The stream; where it is there already, its own `rows_per_shard` stays.

        Raises:
            FingerprintError: The store's stream of this name was made with other settings.
            StoreError: The store's stream of this name has another shape or is kept in another way, or the store is of
                format 1, which has no room for such a stream.
        """
        with self._exclusive():
            metadata = layout.read_metadata(self.path)
            attributes = metadata["attributes"]["avem"]
            clips = len(self._table())
            if spec.name in layout.stream_entries(attributes):
                spec = self._existing(spec)
            else:
                layout.enter_stream(attributes, spec, str(self.path))
                self._make_arrays(spec, clips)
                layout.write_root(self.path, metadata)
            self._grow_arrays(clips)
        return StreamWriter(self.path, spec, layout.stream_entries(attributes)[spec.name].column)

    def column(self, stream: str) -> str:
        """What the manifest's columns of a stream are called.

        Args:
            stream: The stream's name; or its slot, where that has one stream; or the column itself.

        Raises:
            StoreError: The store has no such stream.
        """
        attributes = layout.store_attributes(layout.read_metadata(self.path), str(self.path))
        entries = layout.stream_entries(attributes)
        if stream in entries:
            return entries[stream].column
        if stream in {entry.column for entry in entries.values()}:
            return stream
        raise StoreError(f"{self.path} has no stream {stream}; it has {', '.join(entries) or 'none'}.")

    def mark_pending(self, kind: str, rows: Sequence[int]) -> None:
        """Mark rows to be extracted again, because they are damaged or their encoder has changed.

        Args:
            kind: The stream's name or column, such as `video`.
            rows: Row numbers.

        Raises:
            UnknownClipError: The store has no such row.
        """
        column = self.column(kind)
        with self._exclusive():
            columns = self._fold()
            for row in rows:
                if not 0 <= row < len(columns["clip_id"]):
                    raise UnknownClipError(f"{self.path} has no row {row}; it holds {len(columns['clip_id'])} clips.")
                columns.setdefault(f"{column}_status", [None] * len(columns["clip_id"]))[row] = PENDING
            self._write_manifest(columns)

    def change_decoder(self, kind: str, decoder: str) -> None:
        """Mark every clip of a stream to be decoded again by another decoder; may be repeated after a kill.

        The rows become pending before the stream takes the new decoder's name, so that no row ever passes for one
        that the new decoder read. Rows keep their bytes until they are written again.

        Args:
            kind: The stream's name or column, such as `video`.
            decoder: The new one.
        """
        column = self.column(kind)
        with self._exclusive():
            columns = self._fold()
            clips = len(columns["clip_id"])
            statuses = columns.setdefault(f"{column}_status", [None] * clips)
            decoders = columns.setdefault(f"{column}_decoder", [None] * clips)
            for row, status in enumerate(statuses):
                if status is not None and status.startswith((OK, FAILED)):
                    statuses[row], decoders[row] = PENDING, None
                    if column == "video":  # the longer of two streams' lengths; an old one may be wrong
                        columns["duration_s"][row] = None
            self._write_manifest(columns)
            entries = layout.stream_entries(layout.read_metadata(self.path)["attributes"]["avem"])
            group = next(self.path / entry.name for entry in entries.values() if entry.column == column)
            arrays = [path.parent for path in group.glob(f"*/{layout.METADATA}")]
            for array in sorted(arrays, key=lambda path: path.name == "features"):  # last, because it is the one read
                metadata = layout.read_metadata(array)
                avem = metadata["attributes"]["avem"]
                avem["fingerprint"] = with_decoder(avem["fingerprint"], decoder)
                layout.write_metadata(array, metadata)

    def enter_again(self, entries: Mapping[int, ClipRecord]) -> None:
        """Replace manifest entries that were edited or moved, and have their rows extracted again in every stream.

        Args:
            entries: What belongs into each row.

        Raises:
            UnknownClipError: The store has no such row.
            StoreError: Two rows would hold the same clip.
        """
        with self._exclusive():
            columns = self._fold()
            for row, record in entries.items():
                if not 0 <= row < len(columns["clip_id"]):
                    raise UnknownClipError(f"{self.path} has no row {row}; it holds {len(columns['clip_id'])} clips.")
                for name in columns:
                    if name in LEARNED_COLUMNS or is_stream_column(name):
                        columns[name][row] = None
                    else:
                        columns[name][row] = PENDING if name.endswith("_status") else getattr(record, name)
            if len(set(columns["clip_id"])) < len(columns["clip_id"]):
                raise StoreError(f"Two rows of {self.path} would hold one clip; restore its clips.parquet from a copy.")
            self._edited -= set(entries)
            self._write_manifest(columns)

    def finish(self) -> pa.Table:
        """Fold the ledger into the manifest, which is then complete without it.

        Returns:
            The manifest.
        """
        with self._exclusive():
            columns = self._fold()
            return self._write_manifest(columns)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock to change the manifest, the root's attributes or the arrays' shapes."""
        try:
            with store_lock(self._ledger, exclusive=True):
                sweep(self.path)
                yield
        except OSError as error:
            raise StoreError(f"The store {self.path} can't be written: {disk_reason(error)}.") from error

    def _fold(self) -> Columns:
        """Fold the ledger into the manifest; the store is held exclusively."""
        records = ledger.read_records(Location.parse(self.path))
        table = self._table()
        self._edited = set(edited_rows(table))
        columns = manifest_columns(table)
        ledger.fold(columns, records)
        if records:
            self._write_manifest(columns)
            ledger.retire(self._ledger, records)
        return columns

    def _table(self) -> pa.Table:
        """The manifest, unless it lost entries: new clips would then take the rows of other clips' features."""
        table = read_manifest(self.path / layout.MANIFEST)
        rows = max(map(self._rows_of, self._specs()), default=0)
        if len(table) < rows:
            raise StoreError(
                f"The manifest {self.path / layout.MANIFEST} names {len(table)} clips and the store has features of "
                f"{rows}; {RESTORE}."
            )
        return table

    def _specs(self) -> list[StreamSpec]:
        """The streams that the root names."""
        names = layout.stream_entries(layout.read_metadata(self.path)["attributes"]["avem"])
        return [
            spec_from_metadata(layout.read_metadata(self.path / name / "features"), str(self.path / name))
            for name in names
        ]

    def _rows_of(self, spec: StreamSpec) -> int:
        """For how many clips a stream's arrays were made."""
        return int(layout.read_metadata(self.path / spec.name / "pooled")["shape"][0])

    def _write_manifest(self, columns: Columns) -> pa.Table:
        """Write what `_fold` gave; entries that it found edited stay known as such."""
        return write_manifest(self.path / layout.MANIFEST, columns, self._edited)

    def _remember_roots(self, records: Sequence[ClipRecord], root: Path) -> None:
        """Keep each dataset's folder; the folders it had before stay known for as long as they exist."""
        metadata = layout.read_metadata(self.path)
        attributes = metadata["attributes"]["avem"]
        roots, earlier = attributes.setdefault("roots", {}), attributes.get("earlier_roots", {})
        moved = sorted({record.dataset for record in records if roots.get(record.dataset) != str(root)})
        for dataset in moved:
            before = [path for path in (roots.get(dataset), *earlier.get(dataset, [])) if path and path != str(root)]
            roots[dataset] = str(root)
            if still_there := [path for path in before if Path(path).is_dir()]:
                attributes["earlier_roots"] = earlier = {**earlier, dataset: still_there}
        if moved:
            layout.write_root(self.path, metadata)

    def check(self, spec: StreamSpec) -> None:
        """Check that a stream that is there already was made the same way; nothing is written.

        Raises:
            FingerprintError: The store's stream of this name was made with other settings.
            StoreError: The store's stream of this name has another shape or is kept in another way.
        """
        if spec.name in layout.stream_entries(layout.read_metadata(self.path)["attributes"]["avem"]):
            self._existing(spec)

    def _existing(self, spec: StreamSpec) -> StreamSpec:
        """The stream as the store has it, where `spec` agrees with it."""
        where = self.path / spec.name / "features"
        there = spec_from_metadata(layout.read_metadata(where), str(where))
        spec = as_stored(spec, there, str(self.path))
        if there.fingerprint != spec.fingerprint:
            raise FingerprintError(
                f"The {spec.name} features in {self.path} were made by {there.fingerprint}, not by {spec.fingerprint}; "
                "extract into another store."
            )
        if there.bare() != spec.bare():
            raise StoreError(
                f"The {spec.name} features in {self.path} are {there.dtype} {there.row_shape} with pooled vectors of "
                f"{there.pooled_dim} and the companions {', '.join(there.companions) or 'none'}, not {spec.dtype} "
                f"{spec.row_shape} with {spec.pooled_dim} and {', '.join(spec.companions) or 'none'}; extract into "
                "another store."
            )
        return there

    def _make_arrays(self, spec: StreamSpec, clips: int) -> None:
        group = self.path / spec.name
        if group.exists():  # left by a writer that died before it could enter the stream
            shutil.rmtree(group)
        for node in (group.parent, group):
            layout.write_metadata(node, layout.group_metadata({}))
        for name, array in stream_arrays(spec).items():
            layout.write_metadata(group / name, array.metadata(clips, spec_attributes(spec)))

    def _grow_arrays(self, clips: int) -> None:
        """Give every array of every stream room for each clip."""
        for spec in self._specs():
            for name, array in stream_arrays(spec).items():
                node = self.path / spec.name / name
                metadata = layout.read_metadata(node)
                if metadata["shape"][0] != array.length(clips):
                    metadata["shape"][0] = array.length(clips)
                    layout.write_metadata(node, metadata)
