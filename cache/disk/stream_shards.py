"""Writing one shard of every array of a stream: rows that it held before, unchanged, and new ones."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from avem.cache.disk.arrays import ArraySpec, shard_path, stream_arrays
from avem.cache.disk.encode import EncodedRows
from avem.cache.disk.ragged import RaggedRow, RaggedShardFile, Span, place_rows, write_ragged_shard
from avem.cache.disk.shards import RowError, ShardFile, write_shard
from avem.cache.records import Shard
from avem.cache.spec import StreamSpec

NO_ROOM = "there is no room for a row of this length in its shard; extract the clip into a new store"


def write_stream_shards(
    group: Path, spec: StreamSpec, shard: Shard, encoded: EncodedRows, good: Sequence[int], *, kept: Sequence[int]
) -> list[int]:
    """Rewrite a shard of each of a stream's arrays.

    Args:
        group: The stream's folder.
        spec: The stream.
        shard: Which rows are new.
        encoded: Their bytes.
        good: Which of them are to be kept: indices into `shard.rows`.
        kept: Slots of the rows that the shard holds and that stay.

    Returns:
        Those of `good` for which the shard has no room.

    Raises:
        StoreError: An old shard is damaged, or the disk is full or can't be written.
    """
    arrays, first = stream_arrays(spec), shard.index * spec.rows_per_shard
    slots = {index: shard.rows[index] - first for index in good}
    spans: dict[int, Span] = {}
    placed: dict[int, Span] = {}
    if spec.ragged:
        spans = read_spans(group, spec, shard.index, kept)
        lengths = {slot: encoded.lengths[index] for index, slot in slots.items()}
        placed = place_rows(arrays["features"], spans, lengths)
        base = shard.index * arrays["features"].shard_tokens
        encoded.arrays["offsets"] = [
            (np.array(placed.get(slots.get(index, -1), (0, 0)), dtype="<i8") + base).view(np.uint8)
            for index in range(len(shard.rows))
        ]
    without = [index for index, slot in slots.items() if spec.ragged and slot not in placed]
    new = {slot: index for index, slot in slots.items() if index not in without}

    def write(name: str) -> None:
        array = arrays[name]
        path = shard_path(group / name, shard.index, 1 + len(array.element_shape))
        if array.ragged:
            old_spans = _old_rows(path, array, spans)
            fresh = {slot: RaggedRow(placed[slot], encoded.arrays[name][index].data) for slot, index in new.items()}
            write_ragged_shard(path, array, {**old_spans, **fresh})
            return
        old = ShardFile(path, spec.rows_per_shard) if kept and path.exists() else None  # else its rows are lost already
        rows: dict[int, bytes | memoryview] = {slot: old.raw(slot) for slot in kept} if old else {}
        rows |= {slot: encoded.arrays[name][index].data for slot, index in new.items()}
        write_shard(path, spec.rows_per_shard, array.element_bytes, rows)

    with ThreadPoolExecutor(len(arrays), "arrays") as pool:  # each waits for the disk for most of its time
        list(pool.map(write, arrays))
    return without


def read_spans(group: Path, spec: StreamSpec, index: int, slots: Sequence[int]) -> dict[int, Span]:
    """Where the rows of a shard stand, by slot; rows whose offsets are lost or damaged are left out.

    Args:
        group: The stream's folder.
        spec: A ragged stream.
        index: The shard.
        slots: Whose offsets.

    Raises:
        StoreError: The shard of offsets is damaged as a whole.
    """
    array = stream_arrays(spec)["features"]
    path = shard_path(group / "offsets", index, 2)
    if not slots or not path.exists():
        return {}
    file, base = ShardFile(path, spec.rows_per_shard), index * array.shard_tokens
    found: dict[int, Span] = {}
    for slot in slots:
        try:
            start, stop = (int(offset) - base for offset in file.row(slot, 16).view("<i8"))
        except RowError:
            continue
        if is_span(array, (start, stop)):
            found[slot] = start, stop
    return found


def is_span(array: ArraySpec, span: Span) -> bool:
    """Whether a row can stand there: at a whole chunk, not empty, and among what its shard owns."""
    start, stop = span
    return 0 <= start < stop <= array.shard_tokens and start % array.chunk == 0 and stop - start <= array.longest


def _old_rows(path: Path, array: ArraySpec, spans: dict[int, Span]) -> dict[int, RaggedRow]:
    """Rows that stay, as they are; those whose data is lost are left out."""
    if not spans or not path.exists():
        return {}
    old = RaggedShardFile(path, array)
    return {slot: RaggedRow(span, old.raw(span), raw=True) for slot, span in spans.items() if old.holds(span)}
