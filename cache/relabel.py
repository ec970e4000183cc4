"""Corrected labels: what a dataset says now of clips that a store holds already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avem.cache.disk.manifest import Columns
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


def corrections(clips: Sequence[Clip], columns: Mapping[str, Sequence[str | None]]) -> dict[int, dict[str, str | None]]:
    """Rows whose labels are not what the dataset says, and what it says.

    Args:
        clips: The dataset's clips.
        columns: The manifest as lists: `clip_id` and `CELLS`.

    Returns:
        Row to the cells that differ, by column.
    """
    wanted = {storable(clip.clip_id): label_cells(clip) for clip in clips}
    changed: dict[int, dict[str, str | None]] = {}
    for row, clip_id in enumerate(columns["clip_id"]):
        cells, owner = wanted.get(clip_id or ""), whole_id(clip_id or "")
        if cells is None and owner in wanted:  # a window, whose source is its clip where that has none
            cells = wanted[owner] | {"source": wanted[owner]["source"] or owner}
        if cells is None:
            continue
        differing = {name: cell for name, cell in cells.items() if (columns[name][row] or "") != (cell or "")}
        if differing:
            changed[row] = differing
    return changed


def correct(columns: Columns, changed: Mapping[int, Mapping[str, str | None]]) -> None:
    """Enter corrections into a manifest's columns, in place."""
    for row, cells in changed.items():
        for name, cell in cells.items():
            columns[name][row] = cell
