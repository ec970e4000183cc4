"""The bytes of `clips.parquet`: one checksum over the whole file, kept in the file's own footer.

Pages have the checksums that Parquet knows. The file's CRC-32C stands in its key-value metadata as eight hexadecimal
digits and is computed with those digits set to zeros, so that a file is checked at the speed of memory and renamed
to its final path in one step. Other readers of Parquet ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from enum import Enum

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from avem.errors import StoreError
from avem.reading import parse_json

KEY = b"avem_file_crc32c"
EDITED = "avem_edited_rows"
"""Rows that were found edited when the file was written, as JSON."""
ZEROS = b"0" * 8
VALUE = b"\x18\x08"
"""How Parquet's footer introduces a value of eight bytes behind its key."""

# What Arrow raises for a damaged file: its own errors are not one family, and some are plain OSError.
PARQUET_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
)


class FileState(Enum):
    """What a manifest's checksum says."""

    SOUND = "sound"
    WITHOUT = "without"
    """Written by an older avem, or by another tool."""
    CHANGED = "changed"


def parquet_bytes(table: pa.Table, edited: Collection[int] = ()) -> bytes:
    """A table as Parquet with its file checksum.

    Args:
        table: The manifest.
        edited: Rows to remember as edited.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY.decode(): ZEROS.decode(), EDITED: json.dumps(sorted(edited))})
    data: bytes = sink.getvalue().to_pybytes()
    start = _checksum_start(data)
    if start is None:
        raise StoreError("Arrow wrote the manifest in a form that avem does not know; install another pyarrow.")
    return data[:start] + f"{_checksum(data, start):08x}".encode() + data[start + len(ZEROS) :]


def file_state(data: bytes) -> FileState:
    """Compare a manifest with its checksum."""
    start = _checksum_start(data)
    if start is None:
        half = len(KEY) // 2  # one damaged bit leaves one half of the key, which no other file has
        return FileState.CHANGED if KEY[:half] in data or KEY[half:] in data else FileState.WITHOUT
    kept = data[start : start + len(ZEROS)]
    return FileState.SOUND if kept == f"{_checksum(data, start):08x}".encode() else FileState.CHANGED


def read_columns(data: bytes, wanted: Sequence[str]) -> tuple[pa.Table, int, list[int]]:
    """Read columns of a manifest, as far as it has them.

    Returns:
        The columns, the number of rows, and the rows that are remembered as edited.

    Raises:
        One of `PARQUET_ERRORS`.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    held = set(file.schema_arrow.names)
    # Without Arrow's threads: beside torch, one still starting when a short process ends aborts it.
    table = file.read([name for name in wanted if name in held], use_threads=False)
    edited = parse_json((file.metadata.metadata or {}).get(EDITED.encode(), b"[]"), "The list of edited rows", list)
    return table, file.metadata.num_rows, [int(row) for row in edited]


def column_names(data: bytes) -> set[str]:
    """Names of a manifest's columns.

    Raises:
        One of `PARQUET_ERRORS`.
    """
    return set(pq.ParquetFile(pa.BufferReader(data)).schema_arrow.names)


def _checksum_start(data: bytes) -> int | None:
    """Where the checksum's digits stand in a file, or None."""
    key = data.rfind(KEY)
    start = key + len(KEY) + len(VALUE)
    if key < 0 or data[start - len(VALUE) : start] != VALUE or start + len(ZEROS) > len(data):
        return None
    return start


def _checksum(data: bytes, start: int) -> int:
    """CRC-32C of a file with zeros instead of the digits at `start`."""
    view = np.frombuffer(data, dtype=np.uint8)
    checksum = google_crc32c.extend(google_crc32c.value(view[:start]), ZEROS)
    return int(google_crc32c.extend(checksum, view[start + len(ZEROS) :]))
