"""Corrected labels: what a dataset says now of clips that a store holds already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from avem.cache.manifest.edit import Cells
from avem.cache.windows import whole_id
from avem.records import Clip
from avem.text.names import storable

CELLS = ("split", "source", "emotion", "emotions_raw")
"""Columns that a dataset may correct without its clips being decoded again."""


def label_cells(clip: Clip) -> dict[str, str | None]:
    """A clip's labels as the manifest has them."""
    return {
        "split": storable(clip.split),
        "source": storable(clip.source),
        "emotion": None if clip.emotion is None else str(clip.emotion),
        "emotions_raw": storable(clip.emotions_raw),
    }


def corrections(clips: Sequence[Clip], pieces: Iterable[tuple[int, pa.Table]]) -> dict[int, dict[str, str | None]]:
    """Rows whose labels are not what the dataset says, and what it says.

    A dataset that says nothing of a column, of no clip at all, corrects nothing in it: a folder of clips without their
    table does not take away the labels that came from the table.

    Args:
        clips: The dataset's clips.
        pieces: The manifest in pieces: number of the first row, and a table with `clip_id` and `CELLS`.

    Returns:
        Row to the cells that differ, by column; rows ascend.
    """
    wanted = {storable(clip.clip_id): label_cells(clip) for clip in clips}
    silent = {name for name in CELLS if not any(cells[name] for cells in wanted.values())}
    if "emotions_raw" not in silent:
        silent.discard("emotion")  # labels are there, and none of them is one of the seven
    changed: dict[int, dict[str, str | None]] = {}
    for first, table in pieces:
        held = {name: table[name].to_pylist() for name in CELLS}
        for row, clip_id in enumerate(table["clip_id"].to_pylist()):
            cells = _wanted_cells(wanted, clip_id or "")
            told = {name: cell for name, cell in cells.items() if name not in silent}
            differing = {name: cell for name, cell in told.items() if (held[name][row] or "") != (cell or "")}
            if differing:
                changed[first + row] = differing
    return changed


def _wanted_cells(wanted: Mapping[str, dict[str, str | None]], clip_id: str) -> dict[str, str | None]:
    """What the dataset says of a clip or of a window; nothing where it does not have it."""
    cells = wanted.get(clip_id)
    if cells is not None:
        return cells
    owner = whole_id(clip_id)
    if owner not in wanted:
        return {}
    return wanted[owner] | {"source": wanted[owner]["source"] or owner}  # a window's source is its clip


def corrected_cells(changed: Mapping[int, Mapping[str, str | None]]) -> list[Cells]:
    """Corrections as changes of the manifest, column by column."""
    found = []
    for name in CELLS:
        rows = [row for row, cells in changed.items() if name in cells]
        if rows:
            cells = pa.array([changed[row][name] for row in rows], pa.string())
            found.append(Cells(np.array(rows, dtype=np.int64), {name: cells}))
    return found
