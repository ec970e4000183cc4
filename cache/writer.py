"""Making a store and adding clips to it; `avem.cache.stream` writes their features."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.decoders import as_stored, with_decoder
from avem.cache.disk import layout
from avem.cache.disk.arrays import spec_attributes, spec_from_metadata, stream_arrays
from avem.cache.disk.folding import fold_ledger
from avem.cache.disk.location import Location
from avem.cache.disk.locks import store_lock
from avem.cache.disk.sweep import sweep
from avem.cache.entering import entering, refuse_foreign, replaced_cells
from avem.cache.manifest import parts
from avem.cache.manifest.columns import is_stream_column, new_rows
from avem.cache.manifest.edit import Cells, DecodedAgain, ManifestEditor
from avem.cache.manifest.parts import RESTORE, ROWS_ATTRIBUTE, open_parts, root_attributes
from avem.cache.manifest.subtitles import Subtitle, subtitle_cells, subtitle_changes
from avem.cache.manifest.view import open_manifest
from avem.cache.negatives.staleness import date_negatives, labels_digest
from avem.cache.records import PENDING, ClipRecord, StreamSpec
from avem.cache.relabel import CELLS, corrected_cells, corrections
from avem.cache.remote.mirror import mirror_at
from avem.cache.stream import StreamWriter
from avem.errors import FingerprintError, StoreError, UnknownClipError
from avem.guards.disk import disk_reason
from avem.records import Clip
from avem.text.differences import fingerprint_differences
from avem.urls import as_url, is_url


class StoreWriter:
    """Adds clips and streams to a store; made by `open`. Several writers may work on one store at once."""

    open_remote: ClassVar[Callable[[str], StoreWriter]]
    """Opens a store behind a URL; `avem.cache.remote.writing` sets it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ledger = path / layout.LEDGER

    @classmethod
    def open(cls, path: str | Path) -> StoreWriter:
        """Open a store to add to it, or make one where nothing is yet.

        Args:
            path: The store's folder on this machine, whose parents are made too; or an `s3://` URL.

        Raises:
            StoreError: There is something else, the store is of a newer format, or it can't be written.
        """
        if is_url(path):
            return cls.open_remote(as_url(path))
        path = Path(path).expanduser()
        if (mirror := mirror_at(path)) is not None:
            return cls.open_remote(mirror.url)
        cls.make(path)
        cls.check_format(path)
        return cls(path)

    @staticmethod
    def make(path: Path) -> None:
        """Make a store on this machine, unless there is one; raises as `open`."""
        if not (path / layout.METADATA).is_file():
            refuse_foreign(path)
            avem = {"format_version": layout.FORMAT_VERSION, "roots": {}, "streams": {}}
            attributes = {"avem": {**avem, ROWS_ATTRIBUTE: parts.ROWS_PER_PART}}
            try:
                with store_lock(path / layout.LEDGER, exclusive=True):
                    if not (path / layout.METADATA).is_file():  # another writer may have made it meanwhile
                        layout.write_root(path, layout.group_metadata(attributes))
            except OSError as error:
                raise StoreError(f"A feature store can't be made at {path}: {disk_reason(error)}.") from error

    @staticmethod
    def check_format(path: Path) -> None:
        """Refuse a store on this machine that this avem can't write; raises as `open`."""
        layout.store_attributes(layout.read_metadata(path), str(path))

    def settle(self) -> None:
        """Wait until it is known which of the other writers have died: locks tell at once, claims in a bucket later."""

    @property
    def clips(self) -> pa.Table:
        """The manifest as it stands, with committed shards entered."""
        location = Location.parse(self.path)
        manifest = open_manifest(location, root_attributes(location))
        self._refuse_lost(len(manifest))
        return manifest.table()

    def check_clips(self, records: Sequence[ClipRecord]) -> None:
        """Check that `add_clips` would take these clips; nothing is written.

        Raises:
            StoreError: As there.
        """
        location = Location.parse(self.path)
        entering(open_manifest(location, root_attributes(location)), records, self.path)

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
            manifest = self._folded()
            found = entering(manifest.view, records, self.path)
            rows = {name: clip.row for name, clip in found.known.items()}
            rows |= {record.clip_id: row for row, record in enumerate(found.fresh, start=len(manifest))}
            if found.replaced:
                manifest.change(Cells(np.array([*found.replaced]), replaced_cells(found.replaced, manifest.view.names)))
            if found.fresh:
                manifest.append(new_rows(found.fresh))
            manifest.write()
            self._remember_roots(records, Path(root).expanduser().resolve())
            self._grow_arrays(len(manifest))
        return np.array([rows[record.clip_id] for record in records], dtype=np.int64)

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
            manifest = self._folded()
            changed = corrections(clips, manifest.view.groups(["clip_id", *CELLS]))
            if changed:
                date_negatives(self.path, labels_digest(manifest.view), len(manifest))
                for cells in corrected_cells(changed):
                    manifest.change(cells)
                manifest.write()
        return len(changed)

    def enter_subtitles(self, subtitles: Mapping[str, Subtitle | None], *, any_source: bool = False) -> int:
        """Enter what is said in clips, as text; scores on clips whose text changed get other keys.

        Args:
            subtitles: Clip id to its subtitle; None where its dataset has none, which removes a text that came from
                the dataset and leaves a transcript. Clips that the store does not hold are skipped.
            any_source: Have None remove transcripts too.

        Returns:
            How many of the store's clips have changed.
        """
        with self._exclusive():
            manifest = self._folded()
            changed = subtitle_changes(subtitles, manifest.view, any_source=any_source)
            if changed:
                manifest.change(subtitle_cells(changed))
                manifest.write()
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
            clips = self._rows()
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
            manifest = self._folded()
            wanted = self._known_rows(rows, len(manifest))
            manifest.change(Cells(wanted, {f"{column}_status": pa.array([PENDING] * len(wanted), pa.string())}))
            manifest.write()

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
            manifest = self._folded()
            manifest.change(DecodedAgain(column))
            manifest.write()
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
            manifest = self._folded()
            rows = self._known_rows(list(entries), len(manifest))
            fresh = new_rows([entries[row] for row in rows.tolist()])
            cells = {name: fresh[name].combine_chunks() for name in fresh.column_names}
            for name in filter(is_stream_column, manifest.view.names):
                cells[name] = pa.array([PENDING if name.endswith("_status") else None] * len(rows), pa.string())
            change = Cells(rows, cells)
            renamed = Cells(rows, {"clip_id": cells["clip_id"]})
            ids = renamed.apply(manifest.view.table(["clip_id"]), 0)[0]["clip_id"] if len(rows) else None
            if ids is not None and pc.count_distinct(ids).as_py() < len(ids):
                raise StoreError(f"Two rows of {self.path} would hold one clip; restore its clips.parquet from a copy.")
            manifest.change(change, repaired=rows.tolist())
            manifest.write()

    def finish(self) -> pa.Table:
        """Fold the ledger into the manifest, which is then complete without it.

        Returns:
            The manifest; `fold` does the same without reading all of it.
        """
        self.fold()
        return self.clips

    def fold(self) -> int:
        """Fold the ledger into the manifest, and write the files of the manifest again that lack a checksum or a copy.

        Returns:
            How many clips the store holds.
        """
        with self._exclusive():
            manifest = self._folded()
            manifest.write(whole=True)
        return len(manifest)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock to change the manifest, the root's attributes or the arrays' shapes."""
        try:
            with store_lock(self._ledger, exclusive=True):
                sweep(self.path)
                yield
        except OSError as error:
            raise StoreError(f"The store {self.path} can't be written: {disk_reason(error)}.") from error

    def _folded(self) -> ManifestEditor:
        """The manifest with the ledger folded in; the store is held exclusively."""
        self._rows()
        fold_ledger(self.path)
        return ManifestEditor(self.path)

    def _rows(self) -> int:
        """Clips in the manifest."""
        location = Location.parse(self.path)
        rows = sum(map(len, open_parts(location, root_attributes(location), check=False)))
        self._refuse_lost(rows)
        return rows

    def _refuse_lost(self, clips: int) -> None:
        """Refuse a manifest that lost entries: new clips would then take the rows of other clips' features."""
        rows = max(map(self._rows_of, self._specs()), default=0)
        if clips < rows:
            raise StoreError(
                f"The manifest {self.path / layout.MANIFEST} names {clips} clips and the store has features of "
                f"{rows}; {RESTORE}."
            )

    def _known_rows(self, rows: Sequence[int], clips: int) -> npt.NDArray[np.int64]:
        """Row numbers, each once and ascending, that the store has."""
        wanted = np.unique(np.array(rows, dtype=np.int64))
        wrong = wanted[(wanted < 0) | (wanted >= clips)]
        if len(wrong):
            raise UnknownClipError(f"{self.path} has no row {wrong[0]}; it holds {clips} clips.")
        return wanted

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
            shapes = f"rows are {there.row_shape} there and {spec.row_shape} here, " * (
                there.row_shape != spec.row_shape
            )
            raise FingerprintError(
                f"The {spec.name} features in {self.path} were made in another way: {shapes}"
                f"{fingerprint_differences(there.fingerprint, spec.fingerprint)}; give the encoder and the options "
                "that made them, or extract into another store."
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
