"""The manifest `clips.parquet`: one row per clip, in the order of the arrays' first axis.

Its last column, `check`, is the CRC-32C of the row's number and all its other cells, so that an edited, moved, added or
lost row is noticed and named. `avem.cache.disk.manifest_file` keeps a checksum of the whole file, which is quicker to
compare; rows are compared where that one is missing or does not match. A copy stands in the ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from avem.cache.disk.layout import LEDGER, MANIFEST
from avem.cache.disk.manifest_file import (
    PARQUET_ERRORS,
    FileState,
    column_names,
    file_state,
    parquet_bytes,
    read_columns,
)
from avem.cache.records import PENDING, ClipRecord
from avem.errors import StoreError
from avem.files import write_atomic
from avem.reading import read_regular
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
        ("check", pa.uint32()),
    ]
)

COPY = f"{LEDGER}/{MANIFEST}"
"""Path of the manifest's copy in a store."""
DETAIL_COLUMNS = ("duration_s", "fps", "frames", "has_audio")
"""Columns about a clip's file that extraction fills in, empty at first."""
DECODER_COLUMNS = ("video_decoder", "audio_decoder")
"""Columns that say which decoder read a stream; null, or no such column, in what was made before there was a choice."""
LEARNED_COLUMNS = (*DETAIL_COLUMNS, *DECODER_COLUMNS, "silent")
"""Columns that extraction fills in, empty at first."""
OPTIONAL_COLUMNS = (*DECODER_COLUMNS, "silent", "start_s", "end_s")
"""Columns that older manifests do not have; each is null unless there is something to record."""

Columns = dict[str, list[Any]]
"""A manifest as lists, for editing; without `check`."""


def empty_manifest() -> pa.Table:
    """A manifest of no clips."""
    return SCHEMA.empty_table()


def is_stream_column(name: str) -> bool:
    """Whether a column is of a stream that not every store has, such as `face_status`; absent cells are null."""
    return name not in SCHEMA.names and name.endswith(("_status", "_decoder"))


def stream_columns(names: Iterable[str]) -> list[str]:
    """Those of some columns that belong to streams that not every store has, sorted."""
    return sorted(filter(is_stream_column, names))


def column_type(name: str) -> pa.DataType:
    """Arrow's type of a column."""
    return pa.string() if is_stream_column(name) else SCHEMA.field(name).type


def statuses(table: pa.Table, column: str) -> list[str]:
    """Status of each clip in a stream, by the stream's column; a clip that a stream knows nothing of is pending."""
    name = f"{column}_status"
    if name not in table.column_names:
        return [PENDING] * len(table)
    return [status or PENDING for status in table[name].to_pylist()]


def parse_manifest(data: bytes, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a manifest, or some of its columns; `damaged_entries` says whether they are what was written.

    Args:
        data: The file.
        where: What to call it in messages.
        columns: Which columns; None: all. One that an older manifest does not have is null.

    Raises:
        StoreError: It is not Parquet, columns are missing, or a page does not match its checksum.
    """
    try:
        there = column_names(data)
        lost = sorted(set(SCHEMA.names) - there - set(OPTIONAL_COLUMNS))
        if lost:
            raise KeyError(f"no column {', '.join(lost)}")
        if columns is None:
            columns = [*SCHEMA.names[:-1], *stream_columns(there), SCHEMA.names[-1]]
        table, rows, _ = read_columns(data, columns)
        held = set(table.column_names)
        found = {name: table[name] if name in held else pa.nulls(rows, column_type(name)) for name in columns}
        return pa.table(found).cast(pa.schema([(name, column_type(name)) for name in columns]))
    except PARQUET_ERRORS as error:
        raise StoreError(f"The manifest {where} can't be read ({_reason(error)}); {RESTORE}.") from error


def row_count(data: bytes, where: str) -> int:
    """Clips in a manifest, by its footer.

    Raises:
        StoreError: It is not Parquet.
    """
    try:
        return int(pq.read_metadata(pa.BufferReader(data)).num_rows)
    except PARQUET_ERRORS as error:
        raise StoreError(f"The manifest {where} can't be read ({_reason(error)}); {RESTORE}.") from error


def damaged_entries(data: bytes, where: str) -> list[int]:
    """Rows of a manifest that are not what was written.

    Raises:
        StoreError: It can't be read at all.
    """
    if file_state(data) is not FileState.SOUND:
        return edited_rows(parse_manifest(data, where))
    try:
        return read_columns(data, ["check"])[2]
    except PARQUET_ERRORS as error:
        raise StoreError(f"The manifest {where} can't be read ({_reason(error)}); {RESTORE}.") from error


RESTORE = "`avem cache repair` restores it from the copy in the store's ledger"


def _reason(error: BaseException) -> str:
    """Arrow's message in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def read_manifest(path: Path) -> pa.Table:
    """Read a manifest from disk; a missing one is a store without clips.

    Raises:
        StoreError: It is a folder, is not Parquet, or columns are missing.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return empty_manifest()
    except OSError as error:
        raise StoreError(f"The manifest {path} can't be read ({error.strerror}); {RESTORE}.") from error
    return parse_manifest(data, str(path))


def write_manifest(path: Path, columns: Columns, edited: Collection[int] = ()) -> pa.Table:
    """Write a manifest atomically, with fresh checks, and return it; its copy in the ledger is written first.

    Args:
        path: Its file.
        columns: The clips.
        edited: Rows that were found edited; they keep a check that does not match, so that they stay known as such.
    """
    columns = {**columns, **{name: [storable(path) for path in columns[name]] for name in ("path", "audio_path")}}
    checks = row_checks(columns)
    for row in edited:
        checks[row] ^= 1
    table = manifest_table(columns, checks)
    data = parquet_bytes(table, edited)
    write_atomic(path.parent / COPY, data)
    write_atomic(path, data)
    return table


def manifest_table(columns: Columns, checks: Sequence[int] | pa.ChunkedArray) -> pa.Table:
    """The manifest of lists, with the check of each row."""
    names = [*SCHEMA.names[:-1], *stream_columns(columns)]
    schema = pa.schema([(name, column_type(name)) for name in (*names, "check")])
    return pa.table({**{name: columns[name] for name in names}, "check": checks}, schema=schema)


def manifest_columns(table: pa.Table) -> Columns:
    """The manifest as lists, for editing."""
    return {name: table[name].to_pylist() for name in table.column_names if name != "check"}


def append_clips(columns: Columns, records: Sequence[ClipRecord]) -> None:
    """Add clips at the end, with nothing extracted yet."""
    for name, values in columns.items():
        if name in LEARNED_COLUMNS or is_stream_column(name):
            values.extend([None] * len(records))
        elif name.endswith("_status"):
            values.extend([PENDING] * len(records))
        else:
            values.extend(getattr(record, name) for record in records)


def row_checks(columns: Columns) -> list[int]:
    """CRC-32C of each row: its number and cells in the schema's order, joined by U+001F, absent cells empty.

    Optional columns count only where they are given, after their name, so that older manifests keep their checks.
    """
    names = [name for name in SCHEMA.names if name != "check" and name not in OPTIONAL_COLUMNS]
    texts = [["" if cell is None else str(cell) for cell in columns[name]] for name in names]
    for name in (*OPTIONAL_COLUMNS, *stream_columns(columns)):
        given = ("" if cell is None else f"\x1f{name}={cell}" for cell in columns[name])
        texts[-1] = [f"{text}{more}" for text, more in zip(texts[-1], given, strict=True)]
    rows = map(str, range(len(columns["clip_id"])))
    return [google_crc32c.value("\x1f".join(cells).encode()) for cells in zip(rows, *texts, strict=True)]


def edited_rows(table: pa.Table) -> list[int]:
    """Rows whose cells, or whose position, are not what was written."""
    checks = row_checks(manifest_columns(table))
    return [row for row, (now, then) in enumerate(zip(checks, table["check"].to_pylist(), strict=True)) if now != then]
