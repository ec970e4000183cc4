"""Finding damage: every row's checksum, every shard's index, and the manifest's own checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avem.cache.disk.arrays import ArraySpec, is_byte_ranges, shard_path, stream_arrays
from avem.cache.disk.ragged import RaggedShardFile, Span
from avem.cache.disk.ragged_readers import RaggedZarrRows, RowSpan
from avem.cache.disk.readers import ZarrRows
from avem.cache.disk.shards import RowError, ShardFile
from avem.cache.disk.stream_shards import is_span
from avem.cache.features import Stream
from avem.cache.manifest.columns import edited_rows
from avem.cache.manifest.parts import open_part, part_name
from avem.cache.records import DamagedRow
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.ragged import RemoteRagged
from avem.cache.remote.rows import RemoteRows
from avem.cache.sample import Sample
from avem.errors import StoreError
from avem.progress import Stage, stage

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore


UNREADABLE = "the manifest's entry can't be read"


@dataclass(slots=True)
class _Found:
    """Damage by row."""

    order: list[str]
    """Columns of the store's streams."""
    problems: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    columns: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Streams whose arrays are damaged, by their columns."""
    entries: set[int] = field(default_factory=set)
    """Rows whose entry in the manifest is damaged."""

    def rows(self, names: Mapping[int, str]) -> list[DamagedRow]:
        """The damaged rows, ascending."""
        return [
            DamagedRow(
                row,
                names.get(row, ""),
                "; ".join(self.problems[row]),
                tuple(column for column in self.order if column in self.columns[row]),
                entry=row in self.entries,
            )
            for row in sorted(self.problems)
        ]


def damaged_rows(store: FeatureStore, sample: Sample | None = None) -> list[DamagedRow]:
    """Read every row that should be there, or a sample of them, and check it.

    A row is damaged if its manifest entry was edited, moved or lost, or if its features, pooled vector or scale are
    missing, truncated, or differ from their checksum. Where a part of the manifest can't be read at all, every entry of
    it is lost, and features are checked once it is restored.

    Args:
        store: The store.
        sample: Which rows of each stream to read; None is all. Entries of the manifest are then compared by the
            checksums of its files, and row by row only in files whose checksum is missing or does not match.

    Returns:
        The damaged rows, ascending, each once, with all that is wrong with it.
    """
    store = type(store)(store.location, check=False)  # what is damaged has to be read to be named
    found = _Found([store.stream(name).column for name in store.streams])
    try:
        manifest = store.manifest
    except StoreError:
        return [DamagedRow(row, "", UNREADABLE, entry=True) for row in range(rows_of_arrays(store))]
    for row, problem in _manifest_problems(store, quick=sample is not None):
        found.problems[row].append(problem)
        found.entries.add(row)
    if any(UNREADABLE in problems for problems in found.problems.values()):
        return found.rows({})
    streams = [store.stream(name) for name in store.streams]
    rows = {stream.name: _chosen(stream, sample) for stream in streams}
    work = [(stream, array) for stream in streams for array in readable_arrays(stream)]
    with stage("verify", sum(len(rows[stream.name]) for stream, _ in work), "rows") as progress:
        for stream, array in work:
            for row, problem in _array_problems(store, stream, array, rows[stream.name], progress):
                found.problems[row].append(f"{stream.column}/{array} {problem}")
                found.columns[row].add(stream.column)
    named = np.array([row for row in sorted(found.problems) if row < len(manifest)], dtype=np.int64)
    names = manifest.take(named, ["clip_id"])["clip_id"].to_pylist()
    return found.rows(dict(zip(named.tolist(), names, strict=True)))


def sampled_rows(store: FeatureStore, sample: Sample) -> dict[str, int]:
    """How many rows of each stream are in a sample, by the stream's name."""
    store = type(store)(store.location, check=False)
    return {name: len(_chosen(store.stream(name), sample)) for name in store.streams}


def _chosen(stream: Stream, sample: Sample | None) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(stream.available)
    return rows if sample is None else sample.choose(rows, stream.column)


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


def _manifest_problems(store: FeatureStore, *, quick: bool) -> Iterator[tuple[int, str]]:
    for number, opened in enumerate(store.manifest.parts):
        try:
            part = (open_part(store.location, part_name(number), opened.first) if quick else None) or opened
            edited = (
                part.edited()
                if quick
                else (row for start, table in part.groups(store.manifest.names) for row in edited_rows(table, start))
            )
            yield from ((row, "the manifest's entry was edited or moved") for row in edited)
        except StoreError:
            yield from ((row, UNREADABLE) for row in range(opened.first, opened.first + len(opened)))
    yield from ((row, "the manifest's entry is lost") for row in range(len(store.manifest), rows_of_arrays(store)))


def _array_problems(
    store: FeatureStore, stream: Stream, array: str, rows: npt.NDArray[np.int64], progress: Stage
) -> Iterator[tuple[int, str]]:
    spec, folder = stream_arrays(stream.spec)[array], stream.shard_folder(array)
    if store.location.remote is not None and is_byte_ranges(stream.array_metadata(array)):
        yield from _remote_problems(store.location.remote, stream, array, rows, progress)
        return
    if folder is None:
        yield from _zarr_problems(store, stream, array, rows, progress)
        return
    shards, starts = np.unique(rows // spec.rows_per_shard, return_index=True)
    for shard, some in zip(shards.tolist(), np.split(rows, starts)[1:], strict=True):
        mine = some.tolist()
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
