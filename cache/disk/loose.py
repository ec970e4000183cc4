"""Committed shards that are not folded into the manifest yet, as Arrow tables, and entering them into its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.disk.ledger import ShardRecord
from avem.cache.manifest.columns import DETAIL_COLUMNS
from avem.cache.records import RowDetails

UPDATE = pa.schema(
    [
        ("row", pa.int64()),
        ("status", pa.string()),
        ("decoder", pa.string()),
        ("silent", pa.bool_()),
        ("duration_s", pa.float64()),
        ("fps", pa.float64()),
        ("frames", pa.int32()),
        ("has_audio", pa.bool_()),
    ]
)
BATCH = 1024
"""Records that are Python objects at once."""

Updates = dict[str, pa.Table]
"""Stream to what became of some of its rows: `UPDATE`, ascending, each row once."""


def updates_of(records: Iterable[ShardRecord]) -> Updates:
    """What shard records say, by stream."""
    by_stream: dict[str, dict[int, RowDetails]] = {}
    pieces: dict[str, list[pa.Table]] = {}
    for number, record in enumerate(records, start=1):
        by_stream.setdefault(record.kind, {}).update(record.rows)
        if number % BATCH == 0:
            _set_aside(by_stream, pieces)
    _set_aside(by_stream, pieces)
    return {stream: _ascending(pa.concat_tables(tables)) for stream, tables in pieces.items()}


def _set_aside(by_stream: dict[str, dict[int, RowDetails]], pieces: dict[str, list[pa.Table]]) -> None:
    """Make tables of the rows so far, and forget the objects."""
    for stream, rows in by_stream.items():
        details = list(rows.values())
        columns: dict[str, list[object]] = {
            "row": list(rows),
            "status": [item.manifest_status for item in details],
            **{name: [getattr(item, name) for item in details] for name in UPDATE.names[2:]},
        }
        pieces.setdefault(stream, []).append(pa.table(columns, schema=UPDATE))
    by_stream.clear()


def _ascending(table: pa.Table) -> pa.Table:
    """By row; of a row that is there twice, the later one."""
    rows = table["row"].to_numpy()
    kept = len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1]
    return table.take(pa.array(kept)).combine_chunks()


def enter_updates(
    table: pa.Table, first: int, updates: Mapping[str, pa.Table]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Enter committed shards into rows of a manifest.

    Args:
        table: Some columns of rows that follow each other.
        first: Number of the first of them.
        updates: Committed rows, also of other parts of the manifest.

    Returns:
        The table, and the rows of it that were touched, int64, counted from its start.
    """
    touched = [np.zeros(0, dtype=np.int64)]
    for stream, update in updates.items():
        rows = update["row"].to_numpy()
        low, high = (int(position) for position in np.searchsorted(rows, [first, first + len(table)]))
        if low < high:
            local = rows[low:high] - first
            table = _enter(table, stream, local, update.slice(low, high - low))
            touched.append(local)
    return table, np.unique(np.concatenate(touched))


def _enter(table: pa.Table, stream: str, rows: npt.NDArray[np.int64], update: pa.Table) -> pa.Table:
    """Enter one stream's rows, counted from the table's start."""
    cells = {f"{stream}_status": update["status"], f"{stream}_decoder": update["decoder"]}
    if stream == "audio" or update["silent"].null_count < len(update):
        cells["silent"] = update["silent"]
    for name, given in cells.items():
        if name in table.column_names:
            table = replace_cells(table, name, rows, given)
    for name in DETAIL_COLUMNS:
        known = np.flatnonzero(update[name].is_valid().to_numpy())
        if name in table.column_names and len(known):
            values = update[name].take(pa.array(known))
            if name == "duration_s":  # a clip is as long as the longer of its streams, in whichever order they come
                values = pc.max_element_wise(values, table[name].take(pa.array(rows[known])))
            table = replace_cells(table, name, rows[known], values)
    return table


def replace_cells(
    table: pa.Table, name: str, rows: npt.NDArray[np.int64], values: pa.Array | pa.ChunkedArray
) -> pa.Table:
    """Put values into some cells of a column.

    Args:
        table: A table.
        name: The column.
        rows: Which rows, ascending, int64 [n].
        values: n cells.
    """
    column = table[name].combine_chunks()
    cells = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    mask = np.zeros(len(table), dtype=np.bool_)
    mask[rows] = True
    replaced = pc.replace_with_mask(column, mask, cells.cast(column.type))
    return table.set_column(table.column_names.index(name), name, replaced)
