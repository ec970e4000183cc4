"""Finding damage: every row's checksum, every shard's index, and the manifest's own checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avem.cache.disk.arrays import ArraySpec, is_byte_ranges, shard_path, stream_arrays
from avem.cache.disk.layout import MANIFEST
from avem.cache.disk.manifest import edited_rows, parse_manifest
from avem.cache.disk.ragged import RaggedShardFile, Span
from avem.cache.disk.ragged_readers import RaggedZarrRows, RowSpan
from avem.cache.disk.readers import ZarrRows
from avem.cache.disk.shards import RowError, ShardFile
from avem.cache.disk.stream_shards import is_span
from avem.cache.features import Stream
from avem.cache.records import DamagedRow
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.ragged import RemoteRagged
from avem.cache.remote.rows import RemoteRows
from avem.errors import StoreError
from avem.progress import Stage, stage

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore


def damaged_rows(store: FeatureStore) -> list[DamagedRow]:
    """Read every row that should be there and check it.

    A row is damaged if its manifest entry was edited, moved or lost, or if its features, pooled vector or scale are
    missing, truncated, or differ from their checksum. Where the manifest can't be read at all, every entry is lost, and
    features are checked once it is restored.

    Returns:
        The damaged rows, ascending, each once, with all that is wrong with it.
    """
    store = type(store)(store.location, check=False)  # what is damaged has to be read to be named
    problems: dict[int, list[str]] = defaultdict(list)
    columns: dict[int, set[str]] = defaultdict(set)
    try:
        ids = store.clips["clip_id"].to_pylist()
    except StoreError:
        lost = "the manifest's entry can't be read"
        return [DamagedRow(row, "", lost, entry=True) for row in range(rows_of_arrays(store))]
    for row, problem in _manifest_problems(store):
        problems[row].append(problem)
    entries = set(problems)
    work = [(stream, array) for stream in map(store.stream, store.streams) for array in readable_arrays(stream)]
    total = sum(int(stream.available.sum()) for stream, _ in work)
    with stage("verify", total, "rows") as progress:
        for stream, array in work:
            for row, problem in _array_problems(store, stream, array, progress):
                problems[row].append(f"{stream.column}/{array} {problem}")
                columns[row].add(stream.column)
    order = [store.stream(name).column for name in store.streams]
    return [
        DamagedRow(
            row,
            ids[row] if row < len(ids) else "",
            "; ".join(problems[row]),
            tuple(sorted(columns[row], key=order.index)),
            entry=row in entries,
        )
        for row in sorted(problems)
    ]


def readable_arrays(stream: Stream) -> list[str]:
    """The arrays of a stream whose metadata can be read; `avem.cache.verify_files` names the others."""
    readable = []
    try:
        names = list(stream_arrays(stream.spec))
    except StoreError:
        return []
    for name in names:
        try:
            stream.array_metadata(name)
        except StoreError:
            continue
        readable.append(name)
    return readable


def rows_of_arrays(store: FeatureStore) -> int:
    """How many clips the arrays were made for, as far as their metadata can be read."""
    streams = map(store.stream, store.streams)
    return max((stream.array_rows(name) for stream in streams for name in _clip_arrays(stream)), default=0)


def _clip_arrays(stream: Stream) -> list[str]:
    """The readable arrays that have a row for each clip."""
    return [name for name in readable_arrays(stream) if not stream_arrays(stream.spec)[name].ragged]


def _manifest_problems(store: FeatureStore) -> Iterator[tuple[int, str]]:
    data = store.location.read(MANIFEST)
    rows = 0
    if data is not None:
        where = f"{store.location.url}/{MANIFEST}"
        rows = len(parse_manifest(data, where, ["check"]))
        yield from (
            (row, "the manifest's entry was edited or moved") for row in edited_rows(parse_manifest(data, where))
        )
    yield from ((row, "the manifest's entry is lost") for row in range(rows, rows_of_arrays(store)))


def _array_problems(store: FeatureStore, stream: Stream, array: str, progress: Stage) -> Iterator[tuple[int, str]]:
    rows, spec = np.flatnonzero(stream.available), stream_arrays(stream.spec)[array]
    folder = stream.shard_folder(array)
    if store.location.remote is not None and is_byte_ranges(stream.array_metadata(array)):
        yield from _remote_problems(store.location.remote, stream, array, rows, progress)
        return
    if folder is None:
        yield from _zarr_problems(store, stream, array, rows, progress)
        return
    for shard in np.unique(rows // spec.rows_per_shard).tolist():
        mine = rows[rows // spec.rows_per_shard == shard].tolist()
        path = shard_path(folder, shard, 1 + len(spec.element_shape))
        if spec.ragged:
            found = _ragged_problems(path, spec, shard, mine, _offsets(stream, mine))
        else:
            found = _shard_problems(path, spec, [row - shard * spec.rows_per_shard for row in mine])
        yield from ((row, problem) for row, problem in zip(mine, found, strict=True) if problem)
        progress.advance(len(mine))


REMOTE_ROWS = 4096
"""Rows behind a URL whose progress is shown at once."""
LOST_SHARD = "has lost its shard {path}"
DAMAGED_SHARD = "stands in {path}, which is truncated or has a damaged index"
NO_OFFSETS = "can't be found without its offsets"


def _shard_problems(path: Path, array: ArraySpec, slots: list[int]) -> list[str]:
    """What is wrong with each of a shard's rows that should be there; empty where nothing is."""
    if not path.is_file():
        return [LOST_SHARD.format(path=path)] * len(slots)
    try:
        shard = ShardFile(path, array.rows_per_shard)
    except StoreError:
        return [DAMAGED_SHARD.format(path=path)] * len(slots)
    return [shard.problem(slot, array.element_bytes) for slot in slots]


def _ragged_problems(path: Path, array: ArraySpec, index: int, rows: list[int], offsets: dict[int, Span]) -> list[str]:
    """The same of rows whose length differs, where their offsets are known."""
    if not path.is_file():
        return [LOST_SHARD.format(path=path)] * len(rows)
    try:
        shard = RaggedShardFile(path, array)
    except StoreError:
        return [DAMAGED_SHARD.format(path=path)] * len(rows)
    base, found = index * array.shard_tokens, []
    for row in rows:
        start, stop = offsets.get(row, (base, base))
        local = start - base, stop - base
        found.append(shard.problem(local) if is_span(array, local) else NO_OFFSETS)
    return found


def _offsets(stream: Stream, rows: list[int]) -> dict[int, Span]:
    """First token of each row and the one after its last; of rows whose offsets can't be read, nothing."""
    try:
        return dict(zip(rows, stream.spans(rows), strict=True))
    except StoreError:
        found = {}
    for row in rows:
        try:
            found[row] = stream.span(row)
        except StoreError:
            continue
    return found


def _remote_problems(
    fetcher: Fetcher, stream: Stream, array: str, rows: npt.NDArray[np.int64], progress: Stage
) -> Iterator[tuple[int, str]]:
    """What is wrong with rows behind a URL, many of them asked for at once."""
    name, spec = f"{stream.name}/{array}", stream_arrays(stream.spec)[array]
    for part in np.array_split(rows, max(-(-len(rows) // REMOTE_ROWS), 1)):
        if spec.ragged:
            offsets = _offsets(stream, part.tolist())
            spans = [RowSpan(row, *offsets[row]) for row in part.tolist() if row in offsets]
            found = {row: NO_OFFSETS for row in part.tolist() if row not in offsets}
            found |= RemoteRagged(fetcher, name, spec).problems(spans)
        else:
            reader = RemoteRows(fetcher, name, spec.rows_per_shard, 1 + len(spec.element_shape))
            found = reader.problems(part, spec.element_bytes)
        yield from sorted(found.items())
        progress.advance(len(part))


def _zarr_problems(
    store: FeatureStore, stream: Stream, array: str, rows: npt.NDArray[np.int64], progress: Stage
) -> Iterator[tuple[int, str]]:
    """Through Zarr, whose codecs check what they can."""
    name, spec = f"{stream.name}/{array}", stream_arrays(stream.spec)[array]
    try:
        fixed = None if spec.ragged else ZarrRows(store.location, name)
        ragged = RaggedZarrRows(store.location, name, spec) if spec.ragged else None
    except StoreError as error:
        yield from ((row, f"can't be read ({error})") for row in rows.tolist())
        return
    for row in rows.tolist():
        try:
            if fixed is not None:
                fixed.row(row, spec.element_bytes)
            elif ragged is not None:
                start, stop = _offsets(stream, [row]).get(row, (0, 0))
                buffer = np.empty((stop - start) * spec.fold * spec.element_bytes, dtype=np.uint8)
                if not len(buffer):
                    raise RowError(row, NO_OFFSETS)
                ragged.read_into([RowSpan(row, start, stop)], [buffer])
        except RowError as error:
            yield row, error.problem
        progress.advance()
