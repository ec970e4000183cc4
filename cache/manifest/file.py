"""One Parquet file of the manifest: a checksum over the whole file, kept in the file's own footer.

Pages have the checksums that Parquet knows. The file's CRC-32C stands in its key-value metadata as eight hexadecimal
digits and is computed with those digits set to zeros, so that a file is checked at the speed of memory and renamed
to its final path in one step. Other readers of Parquet ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avem.cache.manifest.columns import is_coded
from avem.errors import StoreError

KEY = b"avem_file_crc32c"
EDITED = "avem_edited_rows"
"""Rows that were found edited when the file was written, as JSON."""
PART = "avem_part"
"""Number of the part."""
IDS = "avem_ids_crc32c"
"""`ids_checksum` of the clips' ids, which names the index that belongs to the file."""
ZEROS = b"0" * 8
VALUE = b"\x18\x08"
"""How Parquet's footer introduces a value of eight bytes behind its key."""

ROWS_PER_GROUP = 65_536
"""Rows of a row group, which is what reading a few rows decodes."""
STEP = 2**20
"""Bytes that are checked at once."""
FOOTER_BYTES = 2**21
"""Bytes at a file's end that are searched for its checksum, at least."""

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


@dataclass(frozen=True, slots=True)
class Written:
    """A file of the manifest, ready to be kept."""

    data: bytes
    ids: str
    """`ids_checksum` of its clips."""
    rows: int


def parquet_bytes(tables: Iterable[pa.Table], schema: pa.Schema, part: int, edited: Collection[int] = ()) -> Written:
    """Rows as a Parquet file with its checksum.

    Args:
        tables: The rows in pieces, which need not all be in memory at once.
        schema: Their columns.
        part: Number of the part.
        edited: Rows to remember as edited, by their numbers in the whole manifest.
    """
    sink = pa.BufferOutputStream()
    rows, ids = 0, 0
    coded = [name for name in schema.names if is_coded(name)]
    with pq.ParquetWriter(
        sink, schema, compression="zstd", write_page_checksum=True, use_dictionary=coded, write_statistics=False
    ) as writer:
        for group in _regrouped(tables, schema):
            writer.write_table(group, row_group_size=ROWS_PER_GROUP)
            rows, ids = rows + len(group), ids_checksum(group["clip_id"], ids)
        named = {KEY.decode(): ZEROS.decode(), EDITED: json.dumps(sorted(edited)), PART: str(part), IDS: f"{ids:08x}"}
        writer.add_key_value_metadata(named)
    data = bytearray(sink.getvalue())
    start = _checksum_start(data)
    if start is None:
        raise StoreError("Arrow wrote the manifest in a form that avem does not know; install another pyarrow.")
    data[start : start + len(ZEROS)] = f"{_checksum(pa.BufferReader(pa.py_buffer(data)), start):08x}".encode()
    return Written(bytes(data), f"{ids:08x}", rows)


def ids_checksum(ids: pa.ChunkedArray, before: int = 0) -> int:
    """CRC-32C of clips' ids as UTF-8, each followed by a zero byte.

    Args:
        ids: string [n].
        before: The checksum of the ids before them.
    """
    for chunk in ids.chunks:
        ended = pc.binary_join_element_wise(chunk, "", "\0")
        text = b"".join(ended.cast(pa.binary()).to_pylist())
        before = int(google_crc32c.extend(before, text))
    return before


def file_state(data: bytes) -> FileState:
    """Compare a file of the manifest with its checksum."""
    return source_state(pa.BufferReader(data))


def source_state(source: pa.NativeFile) -> FileState:
    """Compare an open file of the manifest with its checksum, in little memory.

    Raises:
        OSError: It can't be read.
    """
    size = source.size()
    length = int.from_bytes(source.read_at(4, size - 8), "little") if size >= 8 else 0
    begin = max(0, size - max(length + 8, FOOTER_BYTES)) if length < size else max(0, size - FOOTER_BYTES)
    footer = source.read_at(size - begin, begin)
    start = _checksum_start(footer)
    if start is None:
        half = len(KEY) // 2  # one damaged bit leaves one half of the key, which no other file has
        return FileState.CHANGED if KEY[:half] in footer or KEY[half:] in footer else FileState.WITHOUT
    kept = footer[start : start + len(ZEROS)]
    return FileState.SOUND if kept == f"{_checksum(source, begin + start):08x}".encode() else FileState.CHANGED


def _regrouped(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in row groups of `ROWS_PER_GROUP`; the last one may be shorter."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table.select(schema.names))
        held += len(table)
        if held < ROWS_PER_GROUP:
            continue
        joined = pa.concat_tables(waiting)
        whole = held - held % ROWS_PER_GROUP
        for start in range(0, whole, ROWS_PER_GROUP):
            yield joined.slice(start, ROWS_PER_GROUP)
        waiting, held = [joined.slice(whole)], held - whole
    if held or not waiting:
        yield pa.concat_tables(waiting) if waiting else schema.empty_table()


def _checksum_start(data: bytes | bytearray) -> int | None:
    """Where the checksum's digits stand in the end of a file, or None."""
    key = data.rfind(KEY)
    start = key + len(KEY) + len(VALUE)
    if key < 0 or data[start - len(VALUE) : start] != VALUE or start + len(ZEROS) > len(data):
        return None
    return start


def _checksum(source: pa.NativeFile, start: int) -> int:
    """CRC-32C of a file with zeros instead of the digits at `start`."""
    checksum = _extended(source, 0, 0, start)
    checksum = int(google_crc32c.extend(checksum, ZEROS))
    return _extended(source, checksum, start + len(ZEROS), source.size())


def _extended(source: Any, checksum: int, begin: int, end: int) -> int:
    for position in range(begin, end, STEP):
        block = source.read_at(min(STEP, end - position), position)
        checksum = int(google_crc32c.extend(checksum, np.frombuffer(block, dtype=np.uint8)))
    return checksum
