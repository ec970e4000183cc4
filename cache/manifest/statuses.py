"""What a writer needs of the manifest: a stream's statuses, read again only where a file is another one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.disk.location import Location
from avem.cache.manifest.parts import open_part, part_name, root_attributes, rows_per_part
from avem.cache.manifest.view import open_manifest
from avem.cache.records import PENDING


class StatusReader:
    """Reads statuses of a store on this machine.

    Args:
        store: The store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._location, self._store = Location.parse(store), store
        self._kept: dict[tuple[str, int], tuple[tuple[int, int, int], pa.ChunkedArray]] = {}

    def all(self, column: str) -> list[str]:
        """Status of every row, committed shards entered.

        Args:
            column: What the stream's columns begin with.
        """
        name = f"{column}_status"
        statuses = open_manifest(self._location, root_attributes(self._location)).table([name])[name]
        return _plain(statuses)

    def some(self, column: str, first: int, end: int) -> list[str]:
        """Status of rows from `first` up to `end` by the manifest alone; fewer where it ends before."""
        size = rows_per_part(root_attributes(self._location))
        if size is None or len(self._column(column, 0)) > size:  # one file of any length
            return _plain(self._column(column, 0).slice(first, end - first))
        found: list[str] = []
        for number in range(first // size, (end - 1) // size + 1):
            low, high = max(first - number * size, 0), min(end - number * size, size)
            found += _plain(self._column(column, number).slice(low, high - low))
        return found

    def _column(self, column: str, number: int) -> pa.ChunkedArray:
        """A part's status column."""
        path = self._store / part_name(number)
        try:
            state = path.stat()
        except FileNotFoundError:
            return pa.chunked_array([], pa.string())
        version = (state.st_ino, state.st_mtime_ns, state.st_size)
        kept = self._kept.get((column, number))
        if kept is None or kept[0] != version:
            part = open_part(self._location, part_name(number), check=False)
            name = f"{column}_status"
            statuses = pa.chunked_array([], pa.string()) if part is None else part.read([name], coded=True)[name]
            self._kept[column, number] = kept = (version, statuses)
        return kept[1]


def _plain(statuses: pa.ChunkedArray) -> list[str]:
    found: list[str] = pc.fill_null(statuses.cast(pa.string()), PENDING).to_pylist()
    return found
