"""Finding damage: every row's checksum, every shard's index, and the manifest's own checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avem.cache.disk.layout import shard_path, stream_arrays, stream_group
from avem.cache.disk.manifest import edited_rows
from avem.cache.disk.parts import open_part, part_name
from avem.cache.disk.readers import ZarrRows
from avem.cache.disk.shards import RowError, ShardFile
from avem.cache.records import KINDS, DamagedRow, Kind
from avem.cache.sample import Sample
from avem.errors import StoreError
from avem.progress import Stage, stage

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore


UNREADABLE = "the manifest's entry can't be read"


@dataclass(slots=True)
class _Found:
    """Damage by row."""

    problems: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    kinds: dict[int, set[Kind]] = field(default_factory=lambda: defaultdict(set))
    """Streams whose arrays are damaged."""
    entries: set[int] = field(default_factory=set)
    """Rows whose entry in the manifest is damaged."""

    def rows(self, names: Mapping[int, str]) -> list[DamagedRow]:
        """The damaged rows, ascending."""
        return [
            DamagedRow(
                row,
                names.get(row, ""),
                "; ".join(self.problems[row]),
                tuple(kind for kind in KINDS if kind in self.kinds[row]),
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
    found = _Found()
    try:
        manifest = store.manifest
    except StoreError:
        return [DamagedRow(row, "", UNREADABLE, entry=True) for row in range(rows_of_arrays(store))]
    for row, problem in _manifest_problems(store, quick=sample is not None):
        found.problems[row].append(problem)
        found.entries.add(row)
    if any(UNREADABLE in problems for problems in found.problems.values()):
        return found.rows({})
    rows = {kind: _chosen(store, kind, sample) for kind in store.kinds}
    work = [(kind, array) for kind in store.kinds for array in readable_arrays(store, kind)]
    with stage("verify", sum(len(rows[kind]) for kind, _ in work), "rows") as progress:
        for kind, array in work:
            for row, problem in _array_problems(store, kind, array, rows[kind], progress):
                found.problems[row].append(f"{kind}/{array} {problem}")
                found.kinds[row].add(kind)
    named = np.array([row for row in sorted(found.problems) if row < len(manifest)], dtype=np.int64)
    names = manifest.take(named, ["clip_id"])["clip_id"].to_pylist()
    return found.rows(dict(zip(named.tolist(), names, strict=True)))


def sampled_rows(store: FeatureStore, sample: Sample) -> dict[Kind, int]:
    """How many rows of each stream are in a sample."""
    store = type(store)(store.location, check=False)
    return {kind: len(_chosen(store, kind, sample)) for kind in store.kinds}


def _chosen(store: FeatureStore, kind: Kind, sample: Sample | None) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(store.available(kind))
    return rows if sample is None else sample.choose(rows, kind)


def readable_arrays(store: FeatureStore, kind: Kind) -> list[str]:
    """The arrays of a stream whose metadata can be read; `avem.cache.verify_files` names the others."""
    readable = []
    try:
        names = list(stream_arrays(store.spec(kind)))
    except StoreError:
        return []
    for name in names:
        try:
            store.shard_folder(kind, name)
        except StoreError:
            continue
        readable.append(name)
    return readable


def rows_of_arrays(store: FeatureStore) -> int:
    """How many clips the arrays were made for, as far as their metadata can be read."""
    return max(
        (store.rows_of_array(kind, name) for kind in store.kinds for name in readable_arrays(store, kind)), default=0
    )


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
    store: FeatureStore, kind: Kind, array: str, rows: npt.NDArray[np.int64], progress: Stage
) -> Iterator[tuple[int, str]]:
    folder = store.shard_folder(kind, array)
    if folder is None:
        yield from _zarr_problems(store, kind, array, rows, progress)
        return
    spec = store.spec(kind)
    row_shape, data_type = stream_arrays(spec)[array]
    row_bytes = int(np.prod(row_shape)) * np.dtype(data_type).itemsize
    shards, starts = np.unique(rows // spec.rows_per_shard, return_index=True)
    for shard, some in zip(shards.tolist(), np.split(rows, starts)[1:], strict=True):
        mine = some.tolist()
        path = shard_path(folder, shard, 1 + len(row_shape))
        slots = [row - shard * spec.rows_per_shard for row in mine]
        for row, problem in zip(mine, _shard_problems(path, spec.rows_per_shard, slots, row_bytes), strict=True):
            if problem:
                yield row, problem
        progress.advance(len(mine))


def _shard_problems(path: Path, slots_per_shard: int, slots: list[int], row_bytes: int) -> list[str]:
    """What is wrong with each of a shard's rows that should be there; empty where nothing is."""
    if not path.is_file():
        return [f"has lost its shard {path}"] * len(slots)
    try:
        shard = ShardFile(path, slots_per_shard)
    except StoreError:
        return [f"stands in {path}, which is truncated or has a damaged index"] * len(slots)
    return [shard.problem(slot, row_bytes) for slot in slots]


def _zarr_problems(
    store: FeatureStore, kind: Kind, array: str, rows: npt.NDArray[np.int64], progress: Stage
) -> Iterator[tuple[int, str]]:
    """Through Zarr, whose codecs check what they can."""
    name = f"{stream_group(kind, store.spec(kind).encoder)}/{array}"
    row_shape, data_type = stream_arrays(store.spec(kind))[array]
    buffer = np.empty((1, int(np.prod(row_shape)) * np.dtype(data_type).itemsize), dtype=np.uint8)
    try:
        reader = ZarrRows(store.location, name)
    except StoreError as error:
        yield from ((row, f"can't be read ({error})") for row in rows.tolist())
        return
    for row in rows:
        try:
            reader.read_into(np.array([row]), buffer)
        except RowError as error:
            yield int(row), error.problem
        progress.advance()
