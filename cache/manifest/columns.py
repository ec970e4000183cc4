"""The manifest's columns: one row per clip, in the order of the arrays' first axis.

The last column, `check`, is the CRC-32C of the row's number and all its other cells, so that an edited, moved, added or
lost row is noticed and named. `avem.cache.manifest.file` keeps a checksum of each whole file, which is quicker to
compare; rows are compared where that one is missing or does not match. `avem.cache.manifest.parts` divides a manifest
of many clips into files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.records import PENDING, ClipRecord
from avem.text.names import storable

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("path", pa.string()),
        ("audio_path", pa.string()),
        ("source", pa.string()),
        ("emotion", pa.string()),
        ("emotions_raw", pa.string()),
        ("duration_s", pa.float64()),
        ("fps", pa.float64()),
        ("frames", pa.int32()),
        ("has_audio", pa.bool_()),
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("video_status", pa.string()),
        ("audio_status", pa.string()),
        ("video_decoder", pa.string()),
        ("audio_decoder", pa.string()),
        ("silent", pa.bool_()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("subtitle", pa.string()),
        ("subtitle_source", pa.string()),
        ("check", pa.uint32()),
    ]
)

DETAIL_COLUMNS = ("duration_s", "fps", "frames", "has_audio")
"""Columns about a clip's file that extraction fills in, empty at first."""
DECODER_COLUMNS = ("video_decoder", "audio_decoder")
"""Columns that say which decoder read a stream; null, or no such column, in what was made before there was a choice."""
SUBTITLE_COLUMNS = ("subtitle", "subtitle_source")
"""What is said in a clip, as text, and where that comes from; a subtitle is empty where nothing is said."""
LEARNED_COLUMNS = (*DETAIL_COLUMNS, *DECODER_COLUMNS, "silent", *SUBTITLE_COLUMNS)
"""Columns that are filled in after a clip was entered, empty at first."""
OPTIONAL_COLUMNS = (*DECODER_COLUMNS, "silent", "start_s", "end_s", *SUBTITLE_COLUMNS)
"""Columns that older manifests do not have; each is null unless there is something to record."""
STREAM_ENDINGS = ("_status", "_decoder")
"""Endings of the columns of a stream, such as `face/mae_status`; null, or no such column, is pending."""
CODED_COLUMNS = ("dataset", "split", "source", "emotion", "emotions_raw", "subtitle_source")
"""Columns of few different texts, kept and read as numbers of a list."""

FIRST_STREAMS = ("video_status", "audio_status")
SEPARATOR = "\x1f"


def is_stream_column(name: str) -> bool:
    """Whether a column belongs to a stream that not every store has."""
    return name not in SCHEMA.names and name.endswith(STREAM_ENDINGS)


def is_optional(name: str) -> bool:
    """Whether a manifest may lack a column, which is null then."""
    return name in OPTIONAL_COLUMNS or is_stream_column(name)


def is_coded(name: str) -> bool:
    """Whether a column has few different texts."""
    return name in CODED_COLUMNS or name.endswith(STREAM_ENDINGS)


def column_type(name: str) -> pa.DataType:
    """Type of a column."""
    return pa.string() if is_stream_column(name) else SCHEMA.field(name).type


def all_columns(held: Iterable[str]) -> list[str]:
    """Every column of a manifest in its order.

    Args:
        held: Columns of its files; others than the schema's and those of streams are left out.
    """
    named = [name for name in SCHEMA.names if name != "check"]
    return [*named, *sorted(set(filter(is_stream_column, held))), "check"]


def completed(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Columns of a manifest in the types that they have; those that it lacks are null.

    Raises:
        pa.ArrowException: A column has another type.
    """
    held = set(table.column_names)
    columns = [table[name] if name in held else pa.nulls(len(table), column_type(name)) for name in names]
    schema = pa.schema([(name, column_type(name)) for name in names])
    return pa.table(dict(zip(names, columns, strict=True))).cast(schema)


def empty_manifest() -> pa.Table:
    """A manifest of no clips."""
    return SCHEMA.empty_table()


def new_rows(records: Sequence[ClipRecord]) -> pa.Table:
    """Rows of new clips, nothing of them extracted; without `check`."""
    columns: dict[str, pa.Array] = {}
    for field in SCHEMA:
        if field.name in FIRST_STREAMS:
            columns[field.name] = pa.array([PENDING] * len(records), field.type)
        elif field.name in LEARNED_COLUMNS:
            columns[field.name] = pa.nulls(len(records), field.type)
        elif field.name != "check":
            columns[field.name] = pa.array(record_cells(records, field.name), field.type)
    return pa.table(columns)


def statuses(table: pa.Table, column: str) -> list[str]:
    """Status of each clip of some rows in a stream; a clip that the stream knows nothing of is pending.

    Args:
        table: Rows of a manifest.
        column: What the stream's columns begin with.
    """
    name = f"{column}_status"
    if name not in table.column_names:
        return [PENDING] * len(table)
    return [status or PENDING for status in table[name].to_pylist()]


def record_cells(records: Sequence[ClipRecord], name: str) -> list[object]:
    """One column of some records, as the manifest keeps it."""
    cells = [getattr(record, name) for record in records]
    return [storable(cell) for cell in cells] if name in ("path", "audio_path") else cells


def row_checks(table: pa.Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """CRC-32C of each row: its number and cells in the schema's order, joined by U+001F, absent cells empty.

    Optional columns count only where they are given, after their name, so that older manifests keep their checks.

    Args:
        table: Columns of n rows; `check` is not looked at.
        rows: Their numbers in the whole manifest, int64 [n].

    Returns:
        uint32 [n].
    """
    names = [name for name in SCHEMA.names if name != "check" and name not in OPTIONAL_COLUMNS]
    texts = [pa.array(rows).cast(pa.string()), *(pc.fill_null(_texts(table[name]), "") for name in names)]
    joined = pc.binary_join_element_wise(*texts, SEPARATOR)
    optional = [*OPTIONAL_COLUMNS, *sorted(filter(is_stream_column, table.column_names))]
    for name in optional:
        if name in table.column_names and table[name].null_count < len(table):
            given = pc.binary_join_element_wise(f"{SEPARATOR}{name}=", _texts(table[name]), "")
            joined = pc.binary_join_element_wise(joined, pc.fill_null(given, ""), "")
    checks = np.fromiter(map(google_crc32c.value, _utf8(joined)), dtype=np.uint32, count=len(table))
    return checks


def edited_rows(table: pa.Table, first: int = 0) -> list[int]:
    """Rows whose cells, or whose position, are not what was written.

    Args:
        table: A manifest, or rows of one that follow each other, with `check`.
        first: Number of its first row.
    """
    checks = row_checks(table, np.arange(first, first + len(table)))
    kept = pc.fill_null(table["check"], 0).to_numpy()
    return [first + int(row) for row in np.flatnonzero(checks != kept)]


def _utf8(texts: pa.Array) -> list[bytes]:
    found: list[bytes] = texts.cast(pa.binary()).to_pylist()
    return found


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Cells as Python's `str` writes them, null where there is none."""
    cells = column.combine_chunks()
    if pa.types.is_floating(cells.type):
        return pa.array([None if cell is None else str(cell) for cell in cells.to_pylist()], pa.string())
    if pa.types.is_boolean(cells.type):
        return pc.if_else(cells, "True", "False")
    return cells.cast(pa.string())
