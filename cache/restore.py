"""Writing damaged files of a store again, where what belongs into them is known: from a copy, or from the rest.

Rows of features are not made here: what is missing of them is extracted again, see `avem.extract.repair`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.arrays import spec_attributes, spec_from_metadata, stream_arrays
from avem.cache.disk.ledger import HISTORY, read_records, stream_columns_of
from avem.cache.disk.location import Location
from avem.cache.disk.locks import store_lock
from avem.cache.disk.manifest import COPY, damaged_entries, manifest_columns, parse_manifest, write_manifest
from avem.cache.disk.manifest_file import FileState, file_state
from avem.cache.negatives.file import FOLDER
from avem.cache.scores import SCORES, damaged_lines, parse_scores
from avem.cache.spec import StreamSpec
from avem.cache.verify_files import damaged_records_of, is_sound_line, metadata_nodes, metadata_problem
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
        data = location.read(layout.MANIFEST)
        return 0 if data is None else len(parse_manifest(data, location.url, ["check"]))
    return 0


def _manifest(store: Path, location: Location) -> Iterator[str]:
    """Restore an unreadable or lost manifest from its copy; write a readable one with fresh checksums."""
    path = store / layout.MANIFEST
    try:
        data = location.read(layout.MANIFEST)
        entries = -1 if data is None else len(parse_manifest(data, str(path)))
    except StoreError:
        data, entries = None, -1
    copy = location.read(COPY) if location.exists(COPY) else None
    sound_copy = copy is not None and file_state(copy) is FileState.SOUND
    if copy is not None and sound_copy and (data is None or entries < _array_rows(location)):
        if path.is_dir():
            raise StoreError(f"{path} is a folder; move it away, and `avem cache repair` restores the manifest.")
        columns = manifest_columns(parse_manifest(copy, f"{store}/{COPY}"))
        write_manifest(path, columns, damaged_entries(copy, f"{store}/{COPY}"))
        yield layout.MANIFEST
    elif data is not None and (file_state(data) is FileState.CHANGED or (copy is not None and not sound_copy)):
        write_manifest(path, manifest_columns(parse_manifest(data, str(path))), damaged_entries(data, str(path)))
        yield layout.MANIFEST


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
    for name in (HISTORY, "extract-runs.jsonl"):
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
