"""A manifest as readers see it: all parts, with the committed shards that are not folded yet entered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.disk.ledger import iterate_records, record_names
from avem.cache.disk.location import Location
from avem.cache.disk.loose import Updates, enter_updates, updates_of
from avem.cache.manifest.columns import all_columns, column_type
from avem.cache.manifest.ids import BLOCK, INDEX_FROM, IdIndex, hash_ids, index_name, read_index
from avem.cache.manifest.parts import Part, columns_of, open_parts, part_name, rows_per_part
from avem.cache.records import OK
from avem.reading import require_regular


class ManifestView:
    """What a manifest said when it was opened.

    Args:
        location: The store.
        parts: Its parts, in order.
        updates: Committed shards that the parts do not have yet.
    """

    def __init__(self, location: Location, parts: Sequence[Part], updates: Updates) -> None:
        self._location, self.parts, self._updates = location, list(parts), updates
        self._rows = sum(map(len, self.parts))
        self._indices: dict[int, IdIndex] = {}

    def __len__(self) -> int:
        """Clips."""
        return self._rows

    @property
    def names(self) -> list[str]:
        """Every column."""
        entered = {f"{stream}_{end}" for stream in self._updates for end in ("status", "decoder")}
        return all_columns(columns_of(self.parts) | entered)

    def table(self, names: Sequence[str] | None = None) -> pa.Table:
        """Columns of every row.

        Args:
            names: The columns; None is all.

        Raises:
            StoreError: A file is damaged.
        """
        names = self.names if names is None else list(names)
        schema = pa.schema([(name, column_type(name)) for name in names])
        tables = [enter_updates(part.read(names), part.first, self._updates)[0] for part in self.parts]
        return pa.concat_tables([table.cast(schema) for table in tables]) if tables else schema.empty_table()

    def groups(self, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Columns of every row, row group by row group: number of the first row, and the table.

        Raises:
            StoreError: A file is damaged.
        """
        for part in self.parts:
            for first, table in part.groups(names):
                yield first, enter_updates(table, first, self._updates)[0]

    def coded(self, name: str) -> Iterator[pa.DictionaryArray]:
        """A column of few texts, part by part, as Arrow's dictionary arrays: little memory for many clips.

        Raises:
            StoreError: A file is damaged.
        """
        entered = any(name in (f"{stream}_status", f"{stream}_decoder") for stream in self._updates)
        for part in self.parts:
            column = part.read([name], coded=True)[name]
            if entered:
                plain = pa.table({name: column.cast(pa.string())})
                column = enter_updates(plain, part.first, self._updates)[0][name].dictionary_encode()
            yield from column.chunks

    def available(self, stream: str) -> npt.NDArray[np.bool_]:
        """Whether each clip has features of a stream, bool [clips].

        Args:
            stream: What its columns begin with.

        Raises:
            StoreError: A file is damaged.
        """
        found = np.zeros(self._rows, dtype=np.bool_)
        name = f"{stream}_status"
        for part in self.parts:
            start = part.first
            for chunk in part.read([name], coded=True)[name].chunks:
                words = chunk.dictionary.to_pylist()
                codes = pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False)
                good = [code for code, word in enumerate(words) if word == OK]
                found[start : start + len(chunk)] = np.isin(codes, good) if len(good) != 1 else codes == good[0]
                start += len(chunk)
        if stream in self._updates:
            update = self._updates[stream]
            rows, good = update["row"].to_numpy(), pc.equal(update["status"], OK).to_numpy()
            found[rows[rows < self._rows]] = good[rows < self._rows]
        return found

    def take(self, rows: npt.NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Columns of some rows, in any order; only their row groups are read.

        Raises:
            StoreError: A file is damaged.
        """
        pieces, places = [], []
        for part in self.parts:
            mine = np.flatnonzero((rows >= part.first) & (rows < part.first + len(part)))
            if len(mine):
                pieces.append(self._taken(part, rows[mine], names))
                places.append(mine)
        if not pieces:
            return pa.schema([(name, column_type(name)) for name in names]).empty_table()
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(pieces).take(pa.array(order))

    def _taken(self, part: Part, rows: npt.NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Rows of one part, with committed shards entered."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        table = part.take(distinct - part.first, names)
        moved = {stream: _renumbered(update, distinct) for stream, update in self._updates.items()}
        return enter_updates(table, 0, moved)[0].take(pa.array(inverse.reshape(-1)))

    def row(self, row: int) -> dict[str, Any]:
        """One row's cells by column.

        Raises:
            StoreError: A file is damaged.
        """
        cells: dict[str, Any] = self.take(np.array([row]), self.names).to_pylist()[0]
        return cells

    def find(self, clip_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each clip, int64 [n]; -1 where there is none.

        Raises:
            StoreError: A file is damaged.
        """
        wanted = pa.array(list(clip_ids), pa.string())
        hashes = hash_ids(pa.chunked_array([wanted]))
        found = np.full(len(wanted), -1, dtype=np.int64)
        for number, part in enumerate(self.parts):
            open_ = np.flatnonzero(found < 0)
            if not len(open_):
                break
            rows = self._index(number).find(wanted.take(pa.array(open_)), hashes[open_], _ids_at(part))
            held = rows >= 0
            found[open_[held]] = part.first + rows[held]
        return found

    def ids(self) -> Iterator[str]:
        """Every clip's id, in the order of rows."""
        for part in self.parts:
            for _, table in part.groups(["clip_id"]):
                yield from table["clip_id"].to_pylist()

    def _index(self, number: int) -> IdIndex:
        """The index of a part: its file, where there is a sound one of the same ids; else made here."""
        if number not in self._indices:
            part = self.parts[number]
            found = stored_index(self._location, number, part) if len(part) >= INDEX_FROM else None
            self._indices[number] = found or IdIndex.of(hash_ids(part.read(["clip_id"])["clip_id"]))
        return self._indices[number]


def open_manifest(location: Location, attributes: Mapping[str, Any], *, check: bool = True) -> ManifestView:
    """Open a store's manifest, with the committed shards that it does not have yet.

    Args:
        location: The store.
        attributes: The root's `avem` attributes.
        check: Whether to compare files with their checksums. Without it, damaged records of the ledger are left out.

    Raises:
        StoreError: A part or a record can't be read, or a part is lost.
    """
    names = record_names(location)
    updates = updates_of(iterate_records(location, names, None if check else {}))
    return ManifestView(location, open_parts(location, attributes, check=check), updates)


def lost_file(manifest: ManifestView, attributes: Mapping[str, Any]) -> str:
    """The next part after the last, which is lost if the store has rows for it; empty if no such part can be."""
    if not manifest.parts:
        return part_name(0)
    size = rows_per_part(attributes)
    return part_name(len(manifest.parts)) if size is not None and len(manifest) == size * len(manifest.parts) else ""


def stored_index(location: Location, number: int, part: Part) -> IdIndex | None:
    """The index in a part's file, or None where it is missing, damaged, or of other ids."""
    name = index_name(part_name(number))
    try:
        if location.local is None:
            data = location.read(name)
            return None if data is None else read_index(pa.BufferReader(data), len(part), part.ids)
        require_regular(location.local / name)
        return read_index(pa.OSFile(os.fsencode(location.local / name)), len(part), part.ids)
    except OSError:
        return None


def _ids_at(part: Part) -> Callable[[npt.NDArray[np.int64]], pa.Array]:
    """Ids of a part by row; few rows are read by row group, many by reading the column once."""

    def read(rows: npt.NDArray[np.int64]) -> pa.Array:
        pieces = [part.take(rows[start : start + BLOCK], ["clip_id"]) for start in range(0, len(rows), BLOCK)]
        return pa.concat_tables(pieces)["clip_id"].combine_chunks()

    return read


def _renumbered(update: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Committed rows among some rows of the manifest, numbered by their position there."""
    numbers = update["row"].to_numpy()
    positions = np.searchsorted(rows, numbers)
    inside = np.flatnonzero(positions < len(rows))
    kept = inside[rows[positions[inside]] == numbers[inside]]
    return update.take(pa.array(kept)).set_column(0, "row", pa.array(positions[kept]))
