"""Shard files: whole rows as plain byte ranges, a CRC-32C after each, and the Zarr shard index at the end.

A shard of R row slots is what the `sharding_indexed` codec of Zarr v3 calls a shard with inner chunks of one row:
row slot i stands at `i * (row_bytes + 4)`, its CRC-32C (little endian) right behind it. After the last row comes the
index, R pairs of little-endian uint64 (offset, length), both `2**64 - 1` for a row that is not there, and the index's
own CRC-32C.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

from avem.cache.disk.checked_copy import checked_copy
from avem.errors import StoreError
from avem.files import sync_directory
from avem.guards.disk import disk_reason
from avem.reading import require_regular
from avem.systems import READ_BINARY, read_at, sync_data

CRC_BYTES = 4
MISSING = 2**64 - 1
"""Offset and length of a row slot that holds nothing."""

FLUSH_BYTES = 2**25
"""Bytes after which a shard that is being written is sent to the disk."""

LARGE_ROW = 2**14
"""Bytes from which on rows are copied one by one."""

MADV_POPULATE_READ = 22
"""Linux 5.14 and later: bring pages into memory and say if that fails; Python has no name for it."""

MISMATCH = "does not match its checksum"

RowBytes: TypeAlias = npt.NDArray[np.uint8]

ShardIndex: TypeAlias = npt.NDArray[np.uint64]
"""[R, 2]: offset and length of each row slot's bytes, checksum included."""

Rows: TypeAlias = Mapping[int, "bytes | memoryview"]
"""Row slot to the row's bytes followed by their CRC-32C, or without where the row is freshly made."""


def crc_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """CRC-32C of the data, little endian."""
    view = np.frombuffer(data, dtype=np.uint8)  # the library takes no memoryview, numpy shows it the same bytes
    return struct.pack("<I", google_crc32c.value(view))


def index_bytes(slots: int) -> int:
    """Size of the index of a shard with so many row slots, its checksum included."""
    return 16 * slots + CRC_BYTES


def parse_index(data: bytes | memoryview, slots: int, path: Path) -> ShardIndex:
    """Read the index from a shard's last bytes.

    Raises:
        StoreError: It is too short or its checksum is wrong.
    """
    if len(data) != index_bytes(slots) or crc_bytes(data[:-CRC_BYTES]) != bytes(data[-CRC_BYTES:]):
        raise StoreError(f"The shard {path} is truncated or its index is damaged; run `avem cache verify`.")
    return np.frombuffer(data[:-CRC_BYTES], dtype="<u8").reshape(slots, 2)


class RowError(StoreError):
    """A row that can't be read, or is not what was written.

    Args:
        row: Its number: a slot of a shard, or a row of an array.
        problem: What is wrong with it, as the end of a sentence.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"Row {row} {problem}; run `avem cache verify`.")
        self.row, self.problem = row, problem


class OpenFile:
    """A file mapped into memory; closes itself when nobody refers to it any more.

    Args:
        path: The file.

    Raises:
        StoreError: It is missing, empty, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.handle = path, -1
        try:
            require_regular(path)
            self.handle = os.open(path, READ_BINARY)
        except OSError as error:
            raise StoreError(
                f"The shard {path} can't be opened ({error.strerror}); run `avem cache verify`."
            ) from error
        if not os.fstat(self.handle).st_size:
            raise StoreError(f"The shard {path} is truncated or its index is damaged; run `avem cache verify`.")
        self._map = mmap.mmap(self.handle, 0, access=mmap.ACCESS_READ)
        self.bytes = np.frombuffer(self._map, dtype=np.uint8)
        """The file's bytes when it was opened."""

    def __del__(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)

    def size(self) -> int:
        """How many bytes of the file can be read now: a map must not be read past its file's end."""
        return min(os.fstat(self.handle).st_size, len(self.bytes))

    def tail(self, length: int) -> bytes:
        """The last bytes; fewer where the file is shorter."""
        start = os.fstat(self.handle).st_size - length
        return read_at(self.handle, length, start) if start >= 0 else b""

    def fetched(self, offset: int, length: int) -> memoryview:
        """Bytes of the file, certain to be in memory; what the disk can't read is an error and not a signal."""
        if not hasattr(self._map, "madvise"):  # Windows
            return memoryview(read_at(self.handle, length, offset))
        first = offset - offset % mmap.PAGESIZE
        try:
            self._map.madvise(MADV_POPULATE_READ, first, offset + length - first)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return memoryview(read_at(self.handle, length, offset))  # the system is too old to ask
        return self.bytes[offset : offset + length].data


class ShardFile:
    """An open shard; closes itself when nobody refers to it any more.

    Args:
        path: The file.
        slots: Row slots in a shard of this array.

    Raises:
        StoreError: The file is missing, truncated, or its index is damaged.
    """

    def __init__(self, path: Path, slots: int) -> None:
        self.path = path
        self._file = OpenFile(path)
        self._bytes = self._file.bytes
        self.index = parse_index(self._file.tail(index_bytes(slots)), slots, path)

    def holds(self, slots: int | npt.NDArray[np.int64]) -> bool:
        """Whether all of these row slots have data."""
        return bool((self.index[slots, 0] != MISSING).all())

    def row(self, slot: int, row_bytes: int, *, check: bool = True) -> RowBytes:
        """One row's bytes without its checksum, uint8 [row_bytes], where the file is mapped into memory.

        Args:
            slot: Its slot.
            row_bytes: How long it is.
            check: Whether to compare it with its checksum.

        Raises:
            RowError: The slot is empty, of another size, lies outside the file, or does not match its checksum.
        """
        row = self._view(slot, row_bytes)
        if check and google_crc32c.value(row) != self._checksum(slot, row_bytes):
            raise RowError(slot, MISMATCH)
        return row

    def take(self, slots: npt.NDArray[np.int64], out: RowBytes, *, check: bool = True) -> None:
        """Copy rows, without their checksums, to the rows of `out`, uint8 [n, row bytes].

        Args:
            slots: Their slots, int64 [n].
            out: Filled; what stands in it is what was checked.
            check: Whether to compare each row with its checksum.

        Raises:
            RowError: A slot is empty, of another size, lies outside the file, or does not match its checksum.
        """
        row_bytes = out.shape[1]
        stride = row_bytes + CRC_BYTES
        entries = self.index[slots]
        if row_bytes >= LARGE_ROW or (entries[:, 0] != slots * stride).any() or (entries[:, 1] != stride).any():
            for target, slot in zip(out, slots.tolist(), strict=True):
                row = self._view(slot, row_bytes)
                if not check:
                    np.copyto(target, row)
                elif checked_copy(row, target) != self._checksum(slot, row_bytes):
                    raise RowError(slot, MISMATCH)
            return
        self._refuse_truncated(int(slots.max(initial=0)), int(slots.max(initial=0)) * stride + stride)
        grid = self._bytes[: len(self._bytes) // stride * stride].reshape(-1, stride)
        out[:] = grid[slots, :row_bytes]  # for small rows a call each would take longer than copying
        if check:
            expected = np.ascontiguousarray(grid[slots, row_bytes:]).view("<u4")[:, 0].tolist()
            for slot, row, checksum in zip(slots.tolist(), out, expected, strict=True):
                if google_crc32c.value(row) != checksum:
                    raise RowError(slot, MISMATCH)

    def advise(self, slot: int) -> None:
        """Have the system begin to read a row that is asked for soon."""
        offset, length = (int(number) for number in self.index[slot])
        if offset != MISSING and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.handle, offset, length, os.POSIX_FADV_WILLNEED)

    def _view(self, slot: int, row_bytes: int) -> RowBytes:
        offset, length = (int(number) for number in self.index[slot])
        if length != row_bytes + CRC_BYTES:
            raise RowError(slot, f"is missing from {self.path} or misshapen")
        self._refuse_truncated(slot, offset + length)
        return self._bytes[offset : offset + row_bytes]

    def _checksum(self, slot: int, row_bytes: int) -> int:
        """The checksum behind a row that `_view` found in the file."""
        end = int(self.index[slot, 0]) + row_bytes
        return int.from_bytes(self._bytes[end : end + CRC_BYTES].tobytes(), "little")

    def _refuse_truncated(self, slot: int, end: int) -> None:
        """A map must not be read past its file's end, where the system would end the process."""
        if self._file.size() < end:
            raise RowError(slot, f"was lost when {self.path} was truncated")

    def raw(self, slot: int) -> bytes:
        """One row's bytes with the checksum that stands behind them, unchecked."""
        offset, length = (int(number) for number in self.index[slot])
        return read_at(self._file.handle, length, offset)

    def problem(self, slot: int, row_bytes: int) -> str:
        """What is wrong with a row that should be there, or an empty string."""
        if not self.holds(slot):
            return "is missing from its shard"
        offset, length = (int(number) for number in self.index[slot])
        if length != row_bytes + CRC_BYTES or offset + length > len(self._bytes):
            return "lies outside its shard or is misshapen"
        try:
            row = self._file.fetched(offset, length)
        except OSError as error:
            return f"can't be read from the disk ({error.strerror})"
        return "" if crc_bytes(row[:-CRC_BYTES]) == bytes(row[-CRC_BYTES:]) else MISMATCH


def write_shard(path: Path, slots: int, row_bytes: int, rows: Rows) -> None:
    """Write a whole shard of rows of one size: every row with its checksum at its place, then the index.

    Args:
        path: Final path.
        slots: Row slots of a shard.
        row_bytes: Bytes of one row without its checksum.
        rows: Slot to bytes; `row_bytes` long (checksum is added) or `row_bytes + 4` (kept as it is).

    Raises:
        StoreError: The disk is full or can't be written; nothing is left behind.
    """
    stride = row_bytes + CRC_BYTES
    index = np.full((slots, 2), MISSING, dtype="<u8")

    def parts() -> Iterator[Part]:
        for slot in sorted(rows):
            data = rows[slot]
            yield slot * stride, data
            if len(data) == row_bytes:
                yield slot * stride + row_bytes, crc_bytes(data)
            index[slot] = slot * stride, stride
        packed = index.tobytes()
        yield (max(rows) + 1) * stride if rows else 0, packed + crc_bytes(packed)

    write_parts(path, parts())


Part: TypeAlias = "tuple[int, bytes | memoryview]"
"""Where in a file some bytes belong, and the bytes; parts come in the order of the file."""


def write_parts(path: Path, parts: Iterable[Part]) -> None:
    """Write a file under a temporary name, send it to the disk, and rename it.

    Args:
        path: Final path.
        parts: What it holds; where parts leave a gap, the file has a hole.

    Raises:
        StoreError: The disk is full or can't be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)
        with ThreadPoolExecutor(1, "flush") as flusher, temporary.open("wb") as file:
            begun: list[Future[None]] = []
            for offset, data in parts:
                if file.tell() != offset:
                    file.seek(offset)
                file.write(data)
                if offset >= (len(begun) + 1) * FLUSH_BYTES:  # the disk works while rows are copied and checked
                    file.flush()
                    begun.append(flusher.submit(sync_data, file.fileno()))
            file.flush()
            for part in begun:
                part.result()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"The shard {path} can't be written: {disk_reason(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)
