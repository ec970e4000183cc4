"""Changing a manifest: only parts that a change touches are read and written, row group by row group.

A change is applied to each row group as it is copied, and only touched rows get new checks. Every part is replaced by
an atomic rename, after its copy in the ledger. Parts are written in ascending order, so that a killed writer leaves
the first rows of what it was adding and never a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.disk import layout
from avem.cache.disk.location import Location
from avem.cache.disk.loose import Updates, enter_updates, replace_cells
from avem.cache.manifest import parts
from avem.cache.manifest.columns import all_columns, column_type, completed, row_checks
from avem.cache.manifest.file import FileState, parquet_bytes
from avem.cache.manifest.ids import INDEX_FROM, IdIndex, hash_ids, index_name
from avem.cache.manifest.parts import (
    ROWS_ATTRIBUTE,
    Part,
    columns_of,
    copy_name,
    open_parts,
    parse_part,
    part_name,
    root_attributes,
    rows_per_part,
)
from avem.cache.manifest.view import ManifestView, stored_index
from avem.cache.records import PENDING
from avem.files import write_atomic

Rows = npt.NDArray[np.int64]


class Change(Protocol):
    """A change of a manifest's rows."""

    def touches(self, first: int, end: int) -> bool:
        """Whether it may change rows from `first` up to `end`."""

    def apply(self, table: pa.Table, first: int) -> tuple[pa.Table, Rows]:
        """Change rows that follow each other, `first` of the whole manifest being the first of them.

        Returns:
            The rows, and those that were touched, counted from the table's start, ascending.
        """

    @property
    def columns(self) -> Sequence[str]:
        """Columns that a part may have to get for it."""


@dataclass(frozen=True, slots=True)
class Cells:
    """New cells of some rows."""

    rows: Rows
    """Ascending, [n]."""
    cells: Mapping[str, pa.Array]
    """Column to n cells."""

    @property
    def columns(self) -> Sequence[str]:
        """See `Change`."""
        return list(self.cells)

    def touches(self, first: int, end: int) -> bool:
        """See `Change`."""
        low, high = np.searchsorted(self.rows, [first, end])
        return bool(low < high)

    def apply(self, table: pa.Table, first: int) -> tuple[pa.Table, Rows]:
        """See `Change`."""
        low, high = (int(position) for position in np.searchsorted(self.rows, [first, first + len(table)]))
        local = self.rows[low:high] - first
        for name, cells in self.cells.items():
            table = replace_cells(table, name, local, cells.slice(low, high - low))
        return table, local


@dataclass(frozen=True, slots=True)
class Folded:
    """Committed shards."""

    updates: Updates

    @property
    def columns(self) -> Sequence[str]:
        """See `Change`."""
        return [f"{stream}_{end}" for stream in self.updates for end in ("status", "decoder")]

    def touches(self, first: int, end: int) -> bool:
        """See `Change`."""
        found = [np.searchsorted(update["row"].to_numpy(), [first, end]) for update in self.updates.values()]
        return any(low < high for low, high in found)

    def apply(self, table: pa.Table, first: int) -> tuple[pa.Table, Rows]:
        """See `Change`."""
        return enter_updates(table, first, self.updates)


@dataclass(frozen=True, slots=True)
class DecodedAgain:
    """Every clip of a stream becomes pending, and nothing is left of what its decoder learned."""

    stream: str

    @property
    def columns(self) -> Sequence[str]:
        """See `Change`."""
        return [f"{self.stream}_status", f"{self.stream}_decoder"]

    def touches(self, first: int, end: int) -> bool:
        """See `Change`."""
        return True

    def apply(self, table: pa.Table, first: int) -> tuple[pa.Table, Rows]:
        """See `Change`."""
        status, decoder = self.columns
        done = pc.not_equal(pc.fill_null(table[status], PENDING), PENDING)
        rows = np.flatnonzero(done.to_numpy())
        table = replace_cells(table, status, rows, pa.array([PENDING] * len(rows), pa.string()))
        # the longer of two streams' lengths; an old one may be wrong
        for name in [decoder, "duration_s"] if self.stream == "video" else [decoder]:
            table = replace_cells(table, name, rows, pa.nulls(len(rows), column_type(name)))
        return table, rows


class ManifestEditor:
    """The manifest of a store that is held exclusively.

    Args:
        store: The store's folder.

    Raises:
        StoreError: A part is lost or can't be read.
    """

    def __init__(self, store: Path) -> None:
        self._store, self._location = store, Location.parse(store)
        attributes = root_attributes(self._location)
        self._told = rows_per_part(attributes)
        self._size = self._told or parts.ROWS_PER_PART
        self._parts = open_parts(self._location, attributes)
        self.view = ManifestView(self._location, self._parts, {})
        self._changes: list[Change] = []
        self._added: list[pa.Table] = []
        self._edited = {row for part in self._parts for row in part.edited()}

    def __len__(self) -> int:
        """Rows, those that are being added included."""
        return len(self.view) + sum(map(len, self._added))

    def change(self, change: Change, repaired: Sequence[int] = ()) -> None:
        """Remember a change for `write`.

        Args:
            change: What changes.
            repaired: Rows that were found edited and are right from now on; others stay known as edited.
        """
        self._changes.append(change)
        self._edited -= set(repaired)

    def append(self, rows: pa.Table) -> None:
        """Remember new rows for `write`; a table as `new_rows` gives it."""
        self._added.append(rows)

    def write(self, *, whole: bool = False) -> None:
        """Write the parts that changes touch and new rows belong to.

        Args:
            whole: Also write parts whose file checksum or whose copy is missing, and an empty manifest.

        Raises:
            OSError: The disk can't be written.
        """
        dividing = bool(self._parts) and len(self._parts[0]) > self._size
        count = max(-(-len(self) // self._size), 1 if whole or self._added else 0)
        dirty = [number for number in range(count) if dividing or self._is_dirty(number, whole=whole)]
        if dirty and self._told is None and not dividing:
            self._tell_size()
        if dividing:  # the first part is shortened last; until then readers take it as all of the manifest
            for number in range(count - 1, 0, -1):
                self._write_part(number)
            self._tell_size()
            dirty = [0]
        for number in dirty:
            self._write_part(number)

    def _is_dirty(self, number: int, *, whole: bool) -> bool:
        first, end = number * self._size, min((number + 1) * self._size, len(self))
        if number >= len(self._parts) or end > first + len(self._parts[number]):
            return True
        if any(change.touches(first, end) for change in self._changes):
            return True
        copied = (self._store / copy_name(number)).is_file()
        return whole and (self._parts[number].state is not FileState.SOUND or not copied)

    def _write_part(self, number: int) -> None:
        first, end = number * self._size, min((number + 1) * self._size, len(self))
        mine = [part for part in self._parts if part.first < end and part.first + len(part) > first]
        names = all_columns(columns_of(mine) | {name for change in self._changes for name in change.columns})
        schema = pa.schema([(name, column_type(name)) for name in names])
        edited = [row for row in self._edited if first <= row < end]
        written = parquet_bytes(self._rows(mine, first, end, schema), schema, number, edited)
        write_part(self._store, number, written.data)

    def _rows(self, sources: Sequence[Part], first: int, end: int, schema: pa.Schema) -> Iterator[pa.Table]:
        """Rows of the manifest as they are to be, in pieces."""
        for part in sources:
            for start, table in part.groups(schema.names, (first, end)):
                yield self._changed(table, start)
        start = len(self.view)
        for added in self._added:
            low, high = max(first, start), min(end, start + len(added))
            if low < high:
                table = completed(added.slice(low - start, high - low), schema.names)
                checks = row_checks(table, np.arange(low, high))
                yield table.set_column(schema.get_field_index("check"), schema.field("check"), pa.array(checks))
            start += len(added)

    def _changed(self, table: pa.Table, start: int) -> pa.Table:
        """Rows with every change, and with new checks where something was touched."""
        touched = [np.zeros(0, dtype=np.int64)]
        for change in self._changes:
            if change.touches(start, start + len(table)):
                table, rows = change.apply(table, start)
                touched.append(rows)
        rows = np.unique(np.concatenate(touched))
        if not len(rows):
            return table
        checks = row_checks(table.take(pa.array(rows)), start + rows)
        checks[np.isin(start + rows, list(self._edited))] ^= 1
        return replace_cells(table, "check", rows, pa.array(checks))

    def _tell_size(self) -> None:
        """Keep the size of parts in the root; a store of more than one part needs a reader that knows of them."""
        metadata = layout.read_metadata(self._store)
        attributes = metadata["attributes"]["avem"]
        attributes[ROWS_ATTRIBUTE] = self._told = self._size
        if len(self) > self._size:
            metadata["attributes"]["avem"] = layout.upgraded(attributes)
        layout.write_root(self._store, metadata)


def write_part(store: Path, number: int, data: bytes) -> None:
    """Write a part, its copy in the ledger first, and its index last.

    Args:
        store: The store's folder.
        number: The part's.
        data: Its file.

    Raises:
        OSError: The disk can't be written.
    """
    write_atomic(store / copy_name(number), data)
    write_atomic(store / part_name(number), data)
    part = parse_part(data, part_name(number))
    if len(part) >= INDEX_FROM and stored_index(Location.parse(store), number, part) is None:
        hashes = hash_ids(part.read(["clip_id"])["clip_id"])
        write_atomic(store / index_name(part_name(number)), IdIndex.of(hashes).to_bytes(part.ids))
