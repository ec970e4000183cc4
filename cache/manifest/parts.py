"""The files of a manifest: `clips.parquet` has the first million rows, `clips-000001.parquet` the next, and so on.

A part is opened once and read by column and by row group, so that neither opening a store of ten million clips nor
looking at one of them reads the whole manifest. It stays what it was when it was opened, also while writers replace it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from avem.cache.disk.layout import LEDGER, MANIFEST, METADATA, parse_metadata
from avem.cache.disk.location import Location
from avem.cache.manifest.columns import SCHEMA, all_columns, completed, edited_rows, is_coded, is_optional
from avem.cache.manifest.file import (
    EDITED,
    IDS,
    PARQUET_ERRORS,
    PART,
    ROWS_PER_GROUP,
    FileState,
    source_state,
)
from avem.errors import StoreError
from avem.reading import parse_json, require_regular

ROWS_PER_PART = 1_000_000
"""Rows of every part but the last, where the root says nothing else."""
ROWS_ATTRIBUTE = "rows_per_manifest_part"
"""Attribute of the root with the rows of a part; a root without it has one part of any length."""
RESTORE = "`avem cache repair` restores it from the copy in the store's ledger"

_NAME = re.compile(r"clips-(\d{6})\.parquet")


def part_name(number: int) -> str:
    """File of a part in a store.

    Example:
        >>> part_name(0), part_name(12)
        ('clips.parquet', 'clips-000012.parquet')
    """
    return MANIFEST if number == 0 else f"clips-{number:06d}.parquet"


def copy_name(number: int) -> str:
    """Path of a part's copy in a store."""
    return f"{LEDGER}/{part_name(number)}"


def rows_per_part(attributes: Mapping[str, Any]) -> int | None:
    """Rows of a part by the root's `avem` attributes; None where the manifest is one file of any length."""
    rows = attributes.get(ROWS_ATTRIBUTE)
    return rows if isinstance(rows, int) and rows > 0 else None


def part_numbers(location: Location, folder: str = "") -> list[int]:
    """Numbers of the parts, or of their copies, that are there, ascending."""
    names = location.names(folder)
    found = [0] if MANIFEST in names else []
    return found + sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)) and int(match[1]))


class Part:
    """One file of a manifest, opened; threads may share it.

    Args:
        source: The file or its bytes.
        where: Its path, for messages.
        first: Number of its first row in the whole manifest.
        check: Whether to compare the file with its checksum.

    Raises:
        StoreError: It is not Parquet, or columns are missing.
    """

    def __init__(self, source: pa.NativeFile, where: str, first: int = 0, *, check: bool = True) -> None:
        self._source, self.where, self.first = source, where, first
        try:
            self.state = source_state(source) if check else FileState.SOUND
            self._metadata = pq.ParquetFile(source).metadata
            self.columns = frozenset(self._metadata.schema.to_arrow_schema().names)
            named = {key.decode(): value.decode() for key, value in (self._metadata.metadata or {}).items()}
            self._edited = [int(row) for row in parse_json(named.get(EDITED, "[]").encode(), "Edited rows", list)]
        except PARQUET_ERRORS as error:
            raise self._unreadable(error) from error
        lost = sorted({name for name in SCHEMA.names if not is_optional(name)} - self.columns)
        if lost:
            raise StoreError(f"The manifest {where} can't be read (no column {', '.join(lost)}); {RESTORE}.")
        self.number = int(named[PART]) if named.get(PART, "").isdigit() else None
        self.ids = named.get(IDS, "")
        groups = [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._metadata.num_rows)

    def read(self, names: Sequence[str], groups: Sequence[int] | None = None, *, coded: bool = False) -> pa.Table:
        """Columns of all rows, or of some row groups; columns that the part lacks are null.

        Args:
            names: The columns.
            groups: Row groups; None is all.
            coded: Give columns of few texts as Arrow's dictionary arrays.

        Raises:
            StoreError: A page does not match its checksum, or the file can't be read.
        """
        held = [name for name in names if name in self.columns]
        dictionaries = [name for name in held if coded and is_coded(name)]
        chosen = list(range(len(self._starts) - 1)) if groups is None else list(groups)
        rows = int(sum(self._starts[group + 1] - self._starts[group] for group in chosen))
        try:
            file = pq.ParquetFile(
                self._source,
                metadata=self._metadata,
                read_dictionary=dictionaries,
                page_checksum_verification=True,
                pre_buffer=False,
            )
            # Without Arrow's threads: beside torch, one still starting when a short process ends aborts it.
            table = file.read_row_groups(chosen, held, use_threads=False) if held else pa.table({})
            if not held:
                table = pa.table({"": pa.nulls(rows)})
            if not coded:
                return completed(table, names)
            found = {name: table[name] for name in held}
            lacking = pa.nulls(rows, pa.string()).dictionary_encode()
            return pa.table({name: found.get(name, lacking) for name in names})
        except PARQUET_ERRORS as error:
            raise self._unreadable(error) from error

    def groups(self, names: Sequence[str], between: tuple[int, int] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Row group by row group: number of the first row in the whole manifest, and columns.

        Args:
            names: The columns.
            between: First row and end, in the whole manifest, of the rows that are wanted; None is all.
        """
        begin, end = between or (self.first, self.first + len(self))
        for group in range(len(self._starts) - 1):
            start, stop = (self.first + int(row) for row in self._starts[group : group + 2])
            low, high = max(start, begin), min(stop, end)
            if low < high:
                table = self.read(names, [group])
                for row in range(low, high, ROWS_PER_GROUP):  # older files have larger groups
                    yield row, table.slice(row - start, min(ROWS_PER_GROUP, high - row))

    def take(self, rows: npt.NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Columns of some rows, whose numbers are in the part and in any order; only their row groups are read."""
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        wanted = np.unique(groups)
        table = self.read(names, wanted.tolist())
        sizes = (self._starts[1:] - self._starts[:-1])[wanted]
        offsets = np.concatenate([[0], np.cumsum(sizes)])[: len(wanted)] - self._starts[wanted]
        return table.take(pa.array(rows + offsets[np.searchsorted(wanted, groups)]))

    def edited(self) -> list[int]:
        """Rows of the whole manifest that are not what was written.

        Raises:
            StoreError: The file can't be read.
        """
        if self.state is FileState.SOUND:
            return self._edited
        return [row for first, table in self.groups(part_columns(self)) for row in edited_rows(table, first)]

    def _unreadable(self, error: BaseException) -> StoreError:
        """Arrow's message in one line."""
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return StoreError(f"The manifest {self.where} can't be read ({reason}); {RESTORE}.")


def parse_part(data: bytes, where: str, first: int = 0) -> Part:
    """A part from its bytes.

    Raises:
        StoreError: It is not Parquet, or columns are missing.
    """
    return Part(pa.BufferReader(data), where, first)


def open_part(location: Location, name: str, first: int = 0, *, check: bool = True) -> Part | None:
    """Open a part of a store, or None where there is no such file.

    Raises:
        StoreError: It can't be read.
    """
    where = f"{location.url}/{name}"
    if location.local is None:
        data = location.read(name)
        return None if data is None else Part(pa.BufferReader(data), where, first, check=check)
    path: Path = location.local / name
    try:
        require_regular(path)
        source = pa.OSFile(os.fsencode(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"The manifest {path} can't be read ({error.strerror}); {RESTORE}.") from error
    return Part(source, where, first, check=check)


def open_parts(location: Location, attributes: Mapping[str, Any], *, check: bool = True) -> list[Part]:
    """The parts of a store's manifest in order; none where it has no clips yet.

    Args:
        location: The store.
        attributes: The root's `avem` attributes.
        check: Whether to compare the files with their checksums.

    Raises:
        StoreError: A part can't be read, is lost, has a wrong number of rows, or stands in the wrong order.
    """
    size = rows_per_part(attributes)
    numbers = [0] if size is None else part_numbers(location)
    parts: list[Part] = []
    for number in numbers:
        if number != len(parts):
            raise lost_part(location.url, len(parts))
        part = open_part(location, part_name(number), number * (size or 0), check=check)
        if part is None:
            break  # a store without clips
        parts.append(part)
        if number == 0 and size is not None and len(part) > size:
            break  # an older avem's, which a writer that was killed was dividing; the other parts repeat its rows
        if check and (problem := part_problem(part, number, size, last=number == numbers[-1])):
            raise StoreError(f"The manifest {part.where} {problem}; {RESTORE}.")
    return parts


def lost_part(where: str, number: int) -> StoreError:
    """What to say of a part that is not there."""
    return StoreError(f"The manifest {where}/{part_name(number)} is gone; {RESTORE}.")


def part_problem(part: Part, number: int, size: int | None, *, last: bool) -> str:
    """What is wrong with a part among its neighbours, as the end of a sentence; empty where nothing is."""
    if part.number not in (None, number):
        return f"is part {part.number} of the manifest under the name of part {number}"
    if size is not None and (len(part) > size or (len(part) < size and not last)):
        return f"has {len(part)} rows, not {size}"
    return ""


def root_attributes(location: Location) -> dict[str, Any]:
    """The root's `avem` attributes, as far as they can be read.

    Raises:
        StoreError: The root is damaged.
    """
    data = location.read(METADATA)
    metadata = {} if data is None else parse_metadata(data, location.url)
    attributes = metadata.get("attributes", {})
    found = attributes.get("avem", {}) if isinstance(attributes, dict) else {}
    return found if isinstance(found, dict) else {}


def part_columns(part: Part) -> list[str]:
    """Every column of a part, those included that it lacks and may lack."""
    return all_columns(part.columns)


def columns_of(parts: Iterable[Part]) -> set[str]:
    """Every column that some part has."""
    return set().union(*(part.columns for part in parts))
