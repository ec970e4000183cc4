"""Shards of rows whose length differs by clip: where rows stand, writing them, and reading them back.

All rows of a stream share one flat Zarr array, `[total, C]`. Each shard owns `ArraySpec.shard_tokens` of its offsets,
so that writers need not know what others write; most are never used, and what is not used takes no room on the disk. A
row begins at a whole number of inner chunks and fills as many as it needs, the last one up with zeros. In the file the
chunks stand in the order of their offsets without gaps, each followed by its CRC-32C, and the index comes last, as in
every shard of `sharding_indexed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

from avem.cache.disk.arrays import ArraySpec
from avem.cache.disk.checked_copy import checked_copy, chunk_kernel
from avem.cache.disk.shards import (
    CRC_BYTES,
    MISMATCH,
    MISSING,
    OpenFile,
    Part,
    RowBytes,
    RowError,
    crc_bytes,
    index_bytes,
    parse_index,
    write_parts,
)

Span: TypeAlias = tuple[int, int]
"""First token of a row and the one after its last, counted from the first that its shard owns."""


class RowSpan(NamedTuple):
    """Where a row's tokens stand in the flat array."""

    row: int
    start: int
    stop: int


DISAGREE = "has offsets that disagree with its data in {path}"


def place_rows(array: ArraySpec, kept: Mapping[int, Span], lengths: Mapping[int, int]) -> dict[int, Span]:
    """Find room in a shard for new rows; rows that it holds already stay where they are.

    A row that stays must not move: its offsets and its data are two files, and a writer may be killed between them.

    Args:
        array: The stream's features.
        kept: Slot to span of the rows that stay.
        lengths: Slot to tokens of the new rows, each at least 1.

    Returns:
        Slot to span of the new rows, each at the first place that is free. A row is left out where there is none.

    Example:
        >>> array = ArraySpec((None, 4), "float16", rows_per_shard=4, longest=8, chunk=4)
        >>> place_rows(array, {1: (4, 6)}, {0: 3, 2: 5})
        {0: (0, 3), 2: (8, 13)}
    """
    taken = sorted((start, _filled(array, stop)) for start, stop in kept.values())
    placed: dict[int, Span] = {}
    for slot, tokens in sorted(lengths.items()):
        start = 0
        for first, end in taken:
            if first - start >= tokens:
                break
            start = max(start, end)
        if start + tokens <= array.shard_tokens:
            placed[slot] = start, start + tokens
            taken = sorted([*taken, (start, _filled(array, start + tokens))])
    return placed


def _filled(array: ArraySpec, stop: int) -> int:
    """The first token after the chunks that a row ends in."""
    return -(-stop // array.chunk) * array.chunk


@dataclass(frozen=True, slots=True)
class RaggedRow:
    """A row to write."""

    span: Span
    data: bytes | memoryview
    """Its elements in C order; or, where it stays as it is, its chunks with their checksums."""
    raw: bool = False
    """Whether it stays as it is."""


def write_ragged_shard(path: Path, array: ArraySpec, rows: Mapping[int, RaggedRow]) -> None:
    """Write a whole shard of ragged rows.

    Args:
        path: Final path.
        array: Which of the stream's arrays.
        rows: Slot to row.

    Raises:
        StoreError: The disk is full or can't be written; nothing is left behind.
    """
    chunk_bytes = array.chunk * array.element_bytes
    index = np.full((array.grid[0] // array.chunk, 2), MISSING, dtype="<u8")

    def parts() -> Iterator[Part]:
        position = 0
        for row in sorted(rows.values(), key=lambda row: row.span):
            first, end = chunk_range(array, row.span)
            data = memoryview(row.data).cast("B")
            if row.raw:
                yield position, data
            else:
                yield from _chunks(data, position, chunk_bytes)
            stride = chunk_bytes + CRC_BYTES
            index[first:end, 0] = position + stride * np.arange(end - first)
            index[first:end, 1] = stride
            position += stride * (end - first)
        packed = index.tobytes()
        yield position, packed + crc_bytes(packed)

    write_parts(path, parts())


def _chunks(data: memoryview, position: int, chunk_bytes: int) -> Iterator[Part]:
    """A row's chunks with their checksums, the last one filled up with zeros."""
    for start in range(0, len(data), chunk_bytes):
        piece = data[start : start + chunk_bytes]
        yield position, piece
        zeros = bytes(chunk_bytes - len(piece))
        checksum = google_crc32c.extend(google_crc32c.value(np.frombuffer(piece, dtype=np.uint8)), zeros)
        yield position + len(piece), zeros + int(checksum).to_bytes(CRC_BYTES, "little")
        position += chunk_bytes + CRC_BYTES


def chunk_range(array: ArraySpec, span: Span) -> tuple[int, int]:
    """First inner chunk of a row in its shard, and the one after its last."""
    start, stop = span[0] * array.fold, span[1] * array.fold
    return start // array.chunk, -(-stop // array.chunk)


def copy_chunks(chunks: Iterable[RowBytes], out: RowBytes, chunk_bytes: int, *, check: bool) -> None:
    """Copy a row out of its chunks.

    Args:
        chunks: Each with its checksum behind it; the last one is filled up behind the row's end.
        out: uint8 [row bytes]; what stands in it is what was checked.
        chunk_bytes: Bytes of a chunk without its checksum.
        check: Whether to compare each chunk with its checksum.

    Raises:
        RowError: A chunk does not match its checksum. The row in it is 0.
    """
    done = 0
    for chunk in chunks:
        target = out[done : done + chunk_bytes]
        done += len(target)
        data, kept = chunk[: len(target)], chunk[len(target) :]
        if not check:
            np.copyto(target, data)
            continue
        checksum = checked_copy(data, target)
        if len(kept) > CRC_BYTES:
            checksum = int(google_crc32c.extend(checksum, kept[:-CRC_BYTES]))
        if checksum != int.from_bytes(kept[-CRC_BYTES:].tobytes(), "little"):
            raise RowError(0, MISMATCH)


class RaggedShardFile:
    """An open shard of ragged rows; closes itself when nobody refers to it any more.

    Args:
        path: The file.
        array: Which of the stream's arrays.

    Raises:
        StoreError: The file is missing, truncated, or its index is damaged.
    """

    def __init__(self, path: Path, array: ArraySpec) -> None:
        self.path, self.array = path, array
        self._file = OpenFile(path)
        slots = array.grid[0] // array.chunk
        self.index = parse_index(self._file.tail(index_bytes(slots)), slots, path)

    def holds(self, span: Span) -> bool:
        """Whether all of a row's chunks are there."""
        first, end = chunk_range(self.array, span)
        return bool((self.index[first:end, 0] != MISSING).all())

    def take(self, span: Span, out: RowBytes, *, check: bool = True) -> None:
        """Copy a row, uint8 [row bytes].

        Args:
            span: Which tokens.
            out: Filled; what stands in it is what was checked.
            check: Whether to compare each chunk with its checksum.

        Raises:
            RowError: A chunk is missing, of another size, lies outside the file, or does not match its checksum. The
                row in it is 0: a span does not know its row.
        """
        offsets, chunk_bytes = self._offsets(span), self.array.chunk * self.array.element_bytes
        whole = len(out) // chunk_bytes
        done = 0
        if not check:
            done = self._copy_unchecked(offsets[:whole], out, chunk_bytes)
        elif (kernel := chunk_kernel(len(out), chunk_bytes)) is not None:
            if kernel(self._file.bytes, offsets[:whole], chunk_bytes, out) >= 0:
                raise RowError(0, MISMATCH)
            done = whole
        rest = (self._file.bytes[start : start + chunk_bytes + CRC_BYTES] for start in offsets[done:].tolist())
        copy_chunks(rest, out[done * chunk_bytes :], chunk_bytes, check=check)

    def _copy_unchecked(self, offsets: npt.NDArray[np.int64], out: RowBytes, chunk_bytes: int) -> int:
        """Copy chunks that follow each other in one call; how many were copied, all or none."""
        stride = chunk_bytes + CRC_BYTES
        if not len(offsets) or (np.diff(offsets) != stride).any():
            return 0
        first, count = int(offsets[0]), len(offsets)
        chunks = self._file.bytes[first : first + count * stride].reshape(count, stride)[:, :chunk_bytes]
        np.copyto(out[: count * chunk_bytes].reshape(count, chunk_bytes), chunks)
        return count

    def raw(self, span: Span) -> bytes:
        """A row's chunks with the checksums that stand behind them, unchecked."""
        return b"".join(chunk.tobytes() for chunk in self._raw_chunks(span))

    def problem(self, span: Span) -> str:
        """What is wrong with a row that should be there, or an empty string."""
        try:
            for offset, length in self._entries(span):
                data = np.frombuffer(self._file.fetched(offset, length), dtype=np.uint8)
                if crc_bytes(data[:-CRC_BYTES].data) != data[-CRC_BYTES:].tobytes():
                    return MISMATCH
        except RowError as error:
            return error.problem
        except OSError as error:
            return f"can't be read from the disk ({error.strerror})"
        return ""

    def advise(self, span: Span) -> None:
        """Have the system begin to read a row that is asked for soon."""
        if not hasattr(os, "posix_fadvise"):
            return
        first, end = chunk_range(self.array, span)
        begin, (last, length) = int(self.index[first, 0]), (int(number) for number in self.index[end - 1])
        if MISSING not in (begin, last) and begin <= last:
            os.posix_fadvise(self._file.handle, begin, last + length - begin, os.POSIX_FADV_WILLNEED)

    def _raw_chunks(self, span: Span) -> Iterator[RowBytes]:
        for offset, length in self._entries(span):
            yield self._file.bytes[offset : offset + length]

    def _entries(self, span: Span) -> Iterator[tuple[int, int]]:
        """Offset and length, checksum included, of each of a row's chunks."""
        length = self.array.chunk * self.array.element_bytes + CRC_BYTES
        return ((offset, length) for offset in self._offsets(span).tolist())

    def _offsets(self, span: Span) -> npt.NDArray[np.int64]:
        """Where each of a row's chunks begins, int64 [n], checked against the file's size.

        Raises:
            RowError: A chunk is missing, of another size, or lies outside the file.
        """
        first, end = chunk_range(self.array, span)
        entries = self.index[first:end]
        stride = self.array.chunk * self.array.element_bytes + CRC_BYTES
        if not len(entries) or len(entries) != end - first or (entries[:, 1] != stride).any():
            raise RowError(0, DISAGREE.format(path=self.path))
        if int(entries[:, 0].max()) + stride > self._file.size():
            raise RowError(0, f"was lost when {self.path} was truncated")
        return entries[:, 0].astype(np.int64)
