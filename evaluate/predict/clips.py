"""From a question's clip file to a clip of the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from avem.cache.windows import Span, clip_spans, whole_ids
from avem.evaluate.predict.pooling import WindowRows
from avem.records import Question


@dataclass(frozen=True, slots=True)
class Clips:
    """Where the clips of questions are, for whoever is asked."""

    places: Mapping[str, Any]
    """Question id to a row of the store, the rows of its windows (`WindowRows`), or a media file."""
    absent: Mapping[str, str]
    """Question id to the reason why there is no clip."""


@dataclass(frozen=True, slots=True)
class ResolvedClips:
    """Where each question's clip is."""

    rows: dict[str, int]
    """Question id to row of the manifest, where the clip is one row."""
    absent: dict[str, str]
    """Question id to the reason why there is no clip."""
    windows: dict[str, WindowRows] = field(default_factory=dict)
    """Question id to the rows of the clip's windows, where the store holds it as windows."""

    @property
    def all_rows(self) -> set[int]:
        """Every row that is a question's clip or a window of it."""
        return set(self.rows.values()).union(*(found.rows for found in self.windows.values()))

    @property
    def each_row(self) -> dict[str, tuple[int, ...]]:
        """Question id to the clip's rows: its own, or those of its windows in the order of time."""
        return {**{name: (row,) for name, row in self.rows.items()}, **{n: w.rows for n, w in self.windows.items()}}


def resolve_clips(clips: Any, questions: Sequence[Question]) -> ResolvedClips:
    """Find the clip of every question in a store's manifest.

    A question's `video` fits a clip if it is its `clip_id` or its `path`, or the end of either in whole path parts,
    with or without the file's suffix: `part_1/1.mp4` fits `Clip/original/part_1/1.mp4`. The longest fit has to be the
    only one. A clip that the store holds as windows is found by its own name, and a window by the window's. Where the
    store holds a clip both whole and as windows, the windows count.

    Args:
        clips: The manifest, a `pyarrow.Table` with `clip_id` and `path`.
        questions: Questions to place.
    """
    names, owners, spans = clips["clip_id"].to_pylist(), whole_ids(clips), clip_spans(clips)
    index = _suffix_index(owners, clips["path"].to_pylist())
    single = _window_index(names, spans)
    resolved = ResolvedClips({}, {})
    for question in questions:
        found = single.get(question.video.lstrip("./"), set()) or index.get(_parts(question.video), set())
        exact = {row for row in found if question.video in (names[row], owners[row])} or found
        fitting = sorted({owners[row] for row in exact})
        cut = sorted((span, row) for row in exact if (span := spans[row]) is not None)
        if not exact:
            resolved.absent[question.id] = f"no clip {question.video} in the store"
        elif len(fitting) > 1:
            shown = ", ".join(fitting[:3])
            resolved.absent[question.id] = f"{question.video} fits {len(fitting)} clips of the store ({shown})"
        elif cut and len(exact) > 1:
            resolved.windows[question.id] = WindowRows(tuple(row for _, row in cut))
        else:
            resolved.rows[question.id] = min(exact)
    return resolved


def _suffix_index(names: Sequence[str], paths: Sequence[str]) -> dict[tuple[str, ...], set[int]]:
    index: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for row, (name, path) in enumerate(zip(names, paths, strict=True)):
        for parts in {_parts(name), _parts(path)}:
            for start in range(len(parts)):
                index[parts[start:]].add(row)
    return index


def _window_index(names: Sequence[str], spans: Sequence[Span | None]) -> dict[str, set[int]]:
    """Rows by a window's own name, or its end in whole path parts; the name has no suffix to leave out."""
    index: dict[str, set[int]] = defaultdict(set)
    for row, (name, span) in enumerate(zip(names, spans, strict=True)):
        if span is not None:
            parts = name.split("/")
            for start in range(len(parts)):
                index["/".join(parts[start:])].add(row)
    return index


def _parts(path: str) -> tuple[str, ...]:
    """Path parts without the file's suffix and without a leading `./`."""
    pure = PurePosixPath(path.replace("\\", "/").lstrip("/"))
    return pure.with_suffix("").parts if pure.name else ()
