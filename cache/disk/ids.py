"""Finding clips' rows by their ids, in a tenth of the memory that a dictionary of a million strings takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 65_536
"""Ids that are strings of Python at once."""


class RowsById:
    """Rows by clip id: the ids as Arrow keeps them, and their hashes in order with the row of each.

    Args:
        ids: string [clips].
    """

    def __init__(self, ids: pa.ChunkedArray) -> None:
        self._ids = ids.combine_chunks()
        hashes = np.empty(len(ids), dtype=np.int64)
        for start in range(0, len(ids), BLOCK):
            part = ids.slice(start, BLOCK).to_pylist()
            hashes[start : start + len(part)] = np.fromiter(map(hash, part), dtype=np.int64, count=len(part))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def rows(self, clip_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each clip, int64 [n].

        Raises:
            KeyError: There is no such clip; its argument is the id.
        """
        wanted = list(clip_ids)
        if wanted and not len(self._order):
            raise KeyError(wanted[0])
        hashes = np.fromiter(map(hash, wanted), dtype=np.int64, count=len(wanted))
        positions = np.searchsorted(self._hashes, hashes)
        found: npt.NDArray[np.int64] = self._order[np.minimum(positions, len(self._order) - 1)]
        same = pc.equal(self._ids.take(pa.array(found)), pa.array(wanted, pa.string()))
        for turn in np.flatnonzero(~same.to_numpy(zero_copy_only=False)).tolist():
            found[turn] = self._row_after(wanted[turn], int(positions[turn]))
        return found

    def _row_after(self, clip_id: str, position: int) -> int:
        """The row of a clip whose hash, if it is there, stands at a position or, shared with others, after it."""
        while position < len(self._hashes) and self._hashes[position] == hash(clip_id):
            row = int(self._order[position])
            if self._ids[row].as_py() == clip_id:
                return row
            position += 1
        raise KeyError(clip_id)
