"""Finding damage: every row's checksum, every shard's index, and the manifest's own checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avem.cache.disk.layout import shard_path, stream_arrays, stream_group
from avem.cache.disk.manifest import edited_rows
from avem.cache.disk.readers import ZarrRows
from avem.cache.disk.shards import RowError, ShardFile
from avem.cache.records import KINDS, DamagedRow, Kind
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
    kinds: dict[int, set[Kind]] = defaultdict(set)
    try:
        manifest = store.manifest
    except StoreError:
        lost = "the manifest's entry can't be read"
        return [DamagedRow(row, "", lost, entry=True) for row in range(rows_of_arrays(store))]
    for row, problem in _manifest_problems(store):
        problems[row].append(problem)
    entries = set(problems)
    work = [(kind, array) for kind in store.kinds for array in readable_arrays(store, kind)]
    total = sum(int(store.available(kind).sum()) for kind, _ in work)
    with stage("verify", total, "rows") as progress:
        for kind, array in work:
            for row, problem in _array_problems(store, kind, array, progress):
                problems[row].append(f"{kind}/{array} {problem}")
                kinds[row].add(kind)
    named = np.array([row for row in sorted(problems) if row < len(manifest)], dtype=np.int64)
    names = dict(zip(named.tolist(), manifest.take(named, ["clip_id"])["clip_id"].to_pylist(), strict=True))
    return [
        DamagedRow(
            row,
            names.get(row, ""),
            "; ".join(problems[row]),
            tuple(kind for kind in KINDS if kind in kinds[row]),
            entry=row in entries,
        )
        for row in sorted(problems)
    ]


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


def _manifest_problems(store: FeatureStore) -> Iterator[tuple[int, str]]:
    for part in store.manifest.parts:
        for first, table in part.groups(store.manifest.names):
            yield from ((row, "the manifest's entry was edited or moved") for row in edited_rows(table, first))
    yield from ((row, "the manifest's entry is lost") for row in range(len(store.manifest), rows_of_arrays(store)))


def _array_problems(store: FeatureStore, kind: Kind, array: str, progress: Stage) -> Iterator[tuple[int, str]]:
    rows = np.flatnonzero(store.available(kind))
    folder = store.shard_folder(kind, array)
    if folder is None:
        yield from _zarr_problems(store, kind, array, rows, progress)
        return
    spec = store.spec(kind)
    row_shape, data_type = stream_arrays(spec)[array]
    row_bytes = int(np.prod(row_shape)) * np.dtype(data_type).itemsize
    for shard in np.unique(rows // spec.rows_per_shard).tolist():
        mine = rows[rows // spec.rows_per_shard == shard].tolist()
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
