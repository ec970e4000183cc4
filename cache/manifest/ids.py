"""Finding clips' rows by their ids, in a tenth of the memory that a dictionary of a million strings takes.

A part of the manifest with many clips has an index beside it: the hashes of its ids in order, and the row of each. It
is derived data. A row found by it is compared with its id; an index that is missing, damaged or another part's is not
used, and made in memory instead.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 65_536
"""Ids that are hashed at once."""
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd; its powers are the weights of an id's bytes."""
MAGIC = b"avemids1"
HEADER = struct.Struct("<8sQ8s8x")
"""Magic, clips, and the checksum of the ids that the part's footer also has."""
INDEX_FROM = 65_536
"""Clips from which on a part has an index in a file; fewer are hashed quickly."""
STEP = 2**20
"""Bytes that are checked at once."""

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
IdsAt = Callable[[Rows], pa.Array]
"""Ids of some rows, string [n]."""


def index_name(part: str) -> str:
    """File of the index of a part.

    Example:
        >>> index_name("clips-000001.parquet")
        'clips-000001.ids'
    """
    return part.removesuffix(".parquet") + ".ids"


def hash_ids(ids: pa.ChunkedArray) -> Hashes:
    """Hashes of ids, uint64 [n]: the sum of byte * FACTOR**position, mixed, modulo 2**64.

    Positions count from 1, and one more byte of 1 stands after the last, so that a longer id has another sum.
    """
    blocks = [ids.slice(start, BLOCK).cast(pa.large_binary()) for start in range(0, len(ids), BLOCK)]
    found = [_hash_block(block.combine_chunks()) for block in blocks]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)


def _hash_block(ids: pa.LargeBinaryArray) -> Hashes:
    """Hashes of up to `BLOCK` ids."""
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[ids.offset : ids.offset + len(ids) + 1]
    text = np.frombuffer(data or b"", dtype=np.uint8)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    sizes = np.diff(ends)
    powers = np.cumprod(np.full(int(sizes.max(initial=0)) + 1, FACTOR))
    positions = np.arange(len(text)) - np.repeat(ends[:-1], sizes)
    summed = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(text * powers[positions], dtype=np.uint64)])
    mixed = summed[ends[1:]] - summed[ends[:-1]] + powers[sizes]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    hashes: Hashes = mixed
    return hashes


class IdIndex:
    """Rows by the hashes of their ids.

    Args:
        hashes: uint64 [clips], ascending.
        rows: The row of each, counted from the part's start, [clips].
    """

    def __init__(self, hashes: Hashes, rows: npt.NDArray[np.integer]) -> None:
        self._hashes, self._rows = hashes, rows

    @classmethod
    def of(cls, hashes: Hashes) -> IdIndex:
        """Of hashes in the order of their rows."""
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order)

    def find(self, wanted: pa.Array, hashes: Hashes, ids_at: IdsAt) -> Rows:
        """Row of each id, int64 [n], -1 where there is none.

        Args:
            wanted: The ids, string [n].
            hashes: Theirs, [n].
            ids_at: The part's ids by row.
        """
        found = np.full(len(wanted), -1, dtype=np.int64)
        positions = np.searchsorted(self._hashes, hashes)
        open_ = np.arange(len(wanted))
        while len(open_):  # mostly once: again for ids that share their hash
            within = positions[open_] < len(self._hashes)
            open_ = open_[within]
            open_ = open_[self._hashes[positions[open_]] == hashes[open_]]
            if not len(open_):
                break
            rows = self._rows[positions[open_]].astype(np.int64)
            same = pc.equal(ids_at(rows), wanted.take(pa.array(open_))).to_numpy(zero_copy_only=False)
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            positions[open_] += 1
        return found

    def to_bytes(self, ids: str) -> bytes:
        """The index as its file.

        Args:
            ids: Checksum of the ids, as the part's footer has it.
        """
        body = HEADER.pack(MAGIC, len(self._hashes), ids.encode())
        body += self._hashes.astype("<u8").tobytes() + self._rows.astype("<u4").tobytes()
        return body + struct.pack("<I", google_crc32c.value(body))


def read_index(source: pa.NativeFile, clips: int, ids: str) -> IdIndex | None:
    """An index from its file, where it is what was written and belongs to the ids.

    Args:
        source: The file, opened.
        clips: Rows of its part.
        ids: Checksum of the part's ids.

    Raises:
        OSError: It can't be read.
    """
    size = HEADER.size + 12 * clips
    if source.size() != size + 4 or not ids:
        return None
    if HEADER.unpack(source.read_at(HEADER.size, 0)) != (MAGIC, clips, ids.encode()):
        return None
    checksum = 0
    for start in range(0, size, STEP):
        block = source.read_at(min(STEP, size - start), start)
        checksum = google_crc32c.extend(checksum, np.frombuffer(block, dtype=np.uint8))
    if source.read_at(4, size) != struct.pack("<I", checksum):
        return None
    hashes = np.frombuffer(source.read_at(8 * clips, HEADER.size), dtype="<u8")
    rows = np.frombuffer(source.read_at(4 * clips, HEADER.size + 8 * clips), dtype="<u4")
    return IdIndex(hashes, rows)
