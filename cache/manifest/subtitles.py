"""Subtitles in the manifest: what is said in a clip as text, and where the text comes from."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from avem.cache.manifest.columns import SUBTITLE_COLUMNS
from avem.cache.manifest.edit import Cells
from avem.cache.manifest.view import ManifestView
from avem.text.names import storable

TABLE, SRT, VTT = "clips.csv", "srt", "vtt"
DATASET_SOURCES = (TABLE, SRT, VTT)
"""Sources that a dataset's folder holds, and that extraction compares again each time."""
COLUMNS = ("clip_id", *SUBTITLE_COLUMNS)
FEW = 100
"""Fewer clips than one in so many are looked up one by one, instead of reading the whole manifest."""


@dataclass(frozen=True, slots=True)
class Subtitle:
    """What is said in a clip."""

    text: str
    """One line; empty where nothing is said."""
    source: str
    """One of `DATASET_SOURCES`, or what transcribed the clip."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", one_line(self.text))


def one_line(text: str) -> str:
    r"""Text on one line: runs of white space become one space, and other control characters go.

    Example:
        >>> one_line("Come in,\n  please.\x00 ")
        'Come in, please.'
    """
    kept = "".join(sign for sign in text if sign.isspace() or unicodedata.category(sign) != "Cc")
    return storable(" ".join(kept.split()))


def subtitle_changes(
    wanted: Mapping[str, Subtitle | None], manifest: ManifestView, *, any_source: bool = False
) -> dict[int, Subtitle | None]:
    """Rows whose subtitle is not what is wanted, and what is.

    Args:
        wanted: Clip id to its subtitle; None removes one that came from the dataset.
        manifest: What the store holds; clips that it does not have are skipped.
        any_source: Have None remove transcripts too.

    Returns:
        Row to its subtitle, None for none; rows ascend.
    """
    by_name = {storable(clip_id): subtitle for clip_id, subtitle in wanted.items()}
    changed: dict[int, Subtitle | None] = {}
    for rows, table in _held(manifest, list(by_name)):
        columns = [table[name].to_pylist() for name in COLUMNS]
        for row, clip_id, text, source in zip(rows, *columns, strict=True):
            if clip_id not in by_name:
                continue
            subtitle = by_name[clip_id]
            if subtitle is None:
                if source in DATASET_SOURCES or (any_source and source is not None):
                    changed[row] = None
            elif (text, source) != (subtitle.text, subtitle.source):
                changed[row] = subtitle
    return changed


def _held(manifest: ManifestView, names: list[str]) -> Iterator[tuple[Sequence[int], pa.Table]]:
    """What a manifest says of some clips, and perhaps of others; of few clips only their row groups are read."""
    if len(names) * FEW > len(manifest):
        for first, table in manifest.groups(COLUMNS):
            yield range(first, first + len(table)), table
        return
    rows = np.unique(manifest.find(names))
    rows = rows[rows >= 0]
    yield rows.tolist(), manifest.take(rows, COLUMNS)


def subtitle_cells(changed: Mapping[int, Subtitle | None]) -> Cells:
    """Changed subtitles as cells of the manifest."""
    subtitles = list(changed.values())
    columns = {
        "subtitle": [None if subtitle is None else subtitle.text for subtitle in subtitles],
        "subtitle_source": [None if subtitle is None else subtitle.source for subtitle in subtitles],
    }
    cells = {name: pa.array(column, pa.string()) for name, column in columns.items()}
    return Cells(np.array(list(changed), dtype=np.int64), cells)
