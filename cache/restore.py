"""Writing damaged files of a store again, where what belongs into them is known: from a copy, or from the rest.

Rows of features are not made here: what is missing of them is extracted again, see `avem.extract.repair`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from avem.cache.disk import layout
from avem.cache.disk.arrays import spec_attributes, spec_from_metadata, stream_arrays
from avem.cache.disk.ledger import read_records, stream_columns_of
from avem.cache.disk.location import Location
from avem.cache.disk.locks import store_lock
from avem.cache.manifest.columns import column_type, row_checks
from avem.cache.manifest.edit import write_part
from avem.cache.manifest.file import FileState, parquet_bytes
from avem.cache.manifest.parts import (
    Part,
    copy_name,
    open_part,
    open_parts,
    part_columns,
    part_name,
    root_attributes,
    rows_per_part,
)
from avem.cache.negatives.file import FOLDER
from avem.cache.scores import SCORES, damaged_lines, parse_scores
from avem.cache.spec import StreamSpec
from avem.cache.verify_files import (
    LOGS,
    damaged_records_of,
    every_part,
    is_sound_line,
    metadata_nodes,
    metadata_problem,
    misplaced,
    sound_copy,
)
from avem.errors import StoreError
from avem.files import write_atomic
from avem.guards.disk import disk_reason
from avem.reading import read_json, read_regular


def restore_files(store: Path) -> list[str]:
    """Write what is damaged beside rows again, as far as it is known what belongs there.

    Args:
        store: The store's folder.

    Returns:
        The files that were written or removed, relative to the store.

    Raises:
        StoreError: The folder is not a store, or can't be written.
    """
    location = Location.parse(store)
    try:
        root = list(_root(store, location))
        with store_lock(store / layout.LEDGER, exclusive=True):
            return [
                *root,
                *_metadata(store, location),
                *_manifest(store, location),
                *_ledger(store, location),
                *_scores(store),
            ]
    except OSError as error:
        raise StoreError(f"The store {store} can't be written: {disk_reason(error)}.") from error


def _root(store: Path, location: Location) -> Iterator[str]:
    """Restore the root's metadata from its copy; without it nothing says that a folder is a store."""
    if not metadata_problem(location, ""):
        return
    with suppress(ValueError, FileNotFoundError):
        layout.refuse_newer(read_json(store / layout.METADATA, dict, surrogates=True), str(store))
    copy = location.read(layout.ROOT_COPY)
    if copy is not None:
        layout.write_root(store, layout.parse_metadata(copy, f"{store}/{layout.ROOT_COPY}"))
    else:
        layout.write_root(store, layout.group_metadata(layout.read_metadata(store)["attributes"]))
    yield layout.METADATA


def _metadata(store: Path, location: Location) -> Iterator[str]:
    """Write damaged metadata of groups and arrays again; arrays of one stream say the same of themselves."""
    root = layout.read_metadata(store)
    streams = layout.stream_entries(layout.store_attributes(root, str(store)))
    damaged = [node for node in metadata_nodes(location) if metadata_problem(location, node)]
    for node in damaged:
        if node.startswith(f"{FOLDER}/") and node.count("/") == 2:
            continue  # mined again, not restored
        if node.count("/") < 2:
            layout.write_metadata(store / node, layout.group_metadata({}))
            yield f"{node}/{layout.METADATA}"
    for group in streams:
        sibling = _sound_array(location, group)
        if sibling is None:
            continue
        spec, clips = sibling
        for name, array in stream_arrays(spec).items():
            if metadata_problem(location, f"{group}/{name}"):
                layout.write_metadata(store / group / name, array.metadata(clips, spec_attributes(spec)))
                yield f"{group}/{name}/{layout.METADATA}"
    if root_copy_problem(store):
        layout.write_root(store, root)
        yield layout.ROOT_COPY


def root_copy_problem(store: Path) -> bool:
    """Whether the copy of the root's metadata is there and damaged."""
    try:
        layout.parse_metadata(read_regular(store / layout.ROOT_COPY), str(store))
    except FileNotFoundError:
        return False
    except StoreError:
        return True
    return False


def _sound_array(location: Location, group: str) -> tuple[StreamSpec, int] | None:
    """The description of a stream, and for how many clips it was made, from an array whose metadata is sound."""
    spec = None
    for name in location.names(group):
        data = location.read(f"{group}/{name}/{layout.METADATA}")
        if data is None or metadata_problem(location, f"{group}/{name}"):
            continue
        metadata = layout.parse_metadata(data, group)
        spec = spec_from_metadata(metadata, f"{location.url}/{group}")
        if name in stream_arrays(spec) and not stream_arrays(spec)[name].ragged:
            return spec, int(metadata["shape"][0])
    return None if spec is None else (spec, _clips(location))


def _clips(location: Location) -> int:
    """How many clips the manifest names; none where it can't be read."""
    with suppress(StoreError):
        return sum(map(len, open_parts(location, root_attributes(location), check=False)))
    return 0


def _manifest(store: Path, location: Location) -> Iterator[str]:
    """Restore unreadable or lost parts from their copies; write readable ones with fresh checksums."""
    attributes = root_attributes(location)
    size, rows = rows_per_part(attributes), _array_rows(location)
    for number in every_part(location, attributes):
        first = number * (size or 0)
        expected = max(0, min(rows - first, size or rows))
        if _restore_part(store, location, number, size, expected):
            yield part_name(number)


def _restore_part(store: Path, location: Location, number: int, size: int | None, expected: int) -> bool:
    """Write one part again where it is damaged; whether it was."""
    path, first = store / part_name(number), number * (size or 0)
    try:
        part = open_part(location, part_name(number), first)
        if part is not None:
            for _ in part.groups(part_columns(part)):
                pass
            misfit = bool(misplaced(location, part, number, size))
    except StoreError:
        part = None
    copy = sound_copy(location, number)
    if copy is not None and (part is None or misfit or len(part) < expected):
        if path.is_dir():
            raise StoreError(f"{path} is a folder; move it away, and `avem cache repair` restores the manifest.")
        write_part(store, number, read_regular(store / copy_name(number)))
        return True
    if part is not None and (part.state is FileState.CHANGED or (copy is None and location.exists(copy_name(number)))):
        names = part_columns(part)
        schema = pa.schema([(name, column_type(name)) for name in names])
        tables = (_with_checks(table, start, part) for start, table in part.groups(names))
        write_part(store, number, parquet_bytes(tables, schema, number, part.edited()).data)
        return True
    return False


def _with_checks(table: pa.Table, first: int, part: Part) -> pa.Table:
    """Rows with fresh checks; rows that were found edited keep one that does not match."""
    rows = np.arange(first, first + len(table))
    checks = row_checks(table, rows)
    checks[np.isin(rows, part.edited())] ^= 1
    return table.set_column(table.column_names.index("check"), "check", pa.array(checks))


def _array_rows(location: Location) -> int:
    root = location.read(layout.METADATA)
    streams = layout.store_attributes(layout.parse_metadata(root or b"", location.url), location.url)
    found = [_sound_array(location, name) for name in layout.stream_entries(streams)]
    return max((rows for _, rows in filter(None, found)), default=0)


def _ledger(store: Path, location: Location) -> Iterator[str]:
    """Remove damaged records, whose shards count as not written then, and damaged lines that nothing reads."""
    damaged: dict[str, str] = {}
    read_records(location, damaged)
    for name in damaged:
        (store / name).unlink()
        yield name
    for name in LOGS:
        path = store / layout.LEDGER / name
        data = path.read_bytes() if path.is_file() else b""
        kept = [line for line in data.split(b"\n") if is_sound_line(line)]
        if damaged_records_of(data):
            write_atomic(path, b"".join(line + b"\n" for line in kept))
            yield f"{layout.LEDGER}/{name}"


def damaged_records(store: Path) -> dict[str, set[int]]:
    """Shards whose ledger record is damaged, by the stream's column."""
    damaged: dict[str, str] = {}
    read_records(Location.parse(store), damaged)
    shards: dict[str, set[int]] = {column: set() for column in stream_columns_of(Location.parse(store))}
    for name in damaged:
        column, _, file = name.removeprefix(f"{layout.LEDGER}/").rpartition("/")
        number = file.removesuffix(".json")
        if column in shards and number.isdigit():
            shards[column].add(int(number))
    return shards


def _scores(store: Path) -> Iterator[str]:
    """Take damaged scores out, which are computed again when they are asked for."""
    for path in sorted((store / SCORES).glob("*/scores-*.tsv")):
        data = read_regular(path)
        lost = parse_scores(data)[1]
        if damaged_lines(data):
            kept = [line for line in data.split(b"\n") if line and line not in lost]
            write_atomic(path, b"".join(line + b"\n" for line in kept))
            yield path.relative_to(store).as_posix()
