"""Where the clips of questions are: rows of a store, rows of a clip's windows, or media files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from avem.cache.windows import Span, clip_spans, whole_ids
from avem.errors import DataError
from avem.records import Question

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The windows of one clip: rows of a store, in the order of time."""

    rows: tuple[int, ...]


ClipPosition: TypeAlias = int | WindowRows | Path
"""Where a clip is: its row of a store, the rows of its windows, or its media file."""


@dataclass(frozen=True, slots=True)
class ResolvedClips:
    """Where each question's clip is."""

    positions: dict[str, ClipPosition] = field(default_factory=dict)
    """Question id to its clip."""
    absent: dict[str, str] = field(default_factory=dict)
    """Question id to the reason why there is no clip."""

    @property
    def rows(self) -> dict[str, int]:
        """Question id to row of the manifest, where the clip is one row."""
        return {name: found for name, found in self.positions.items() if isinstance(found, int)}

    @property
    def windows(self) -> dict[str, WindowRows]:
        """Question id to the rows of the clip's windows, where the store holds it as windows."""
        return {name: found for name, found in self.positions.items() if isinstance(found, WindowRows)}

    @property
    def all_rows(self) -> set[int]:
        """Every row that is a question's clip or a window of it."""
        return {row for rows in self.each_row.values() for row in rows}

    @property
    def each_row(self) -> dict[str, tuple[int, ...]]:
        """Question id to the clip's rows: its own, or those of its windows in the order of time."""
        return {**{name: (row,) for name, row in self.rows.items()}, **{n: w.rows for n, w in self.windows.items()}}

    def with_media(self, has_media: Callable[[Any], bool]) -> ResolvedClips:
        """The clips that have media, see `with_media`; the others have no position and no reason."""
        kept = {name: with_media(position, has_media) for name, position in self.positions.items()}
        return ResolvedClips({name: found for name, found in kept.items() if found is not None}, self.absent)


def need_a_clip(clips: ResolvedClips, questions: Sequence[Question], remedy: str) -> None:
    """Refuse questions none of which has a clip: every figure would be about nothing.

    Args:
        clips: Where the questions' clips are.
        questions: The questions; none at all are not refused here.
        remedy: What to do, the end of the sentence.

    Raises:
        DataError: No question has a clip.
    """
    if questions and not clips.positions:
        reason = clips.absent.get(questions[0].id, "its clip has neither video nor audio")
        raise DataError(f"No question has a clip (the first, {questions[0].id}: {reason}); {remedy}.")


def single_positions(position: ClipPosition) -> Sequence[int | Path]:
    """The rows of a clip in windows, or the one position of any other clip."""
    return position.rows if isinstance(position, WindowRows) else [position]


def with_media(position: ClipPosition | None, has_media: Callable[[Any], bool]) -> ClipPosition | None:
    """A clip's position, of windows those with media; None where there is no media."""
    if not isinstance(position, WindowRows):
        return position if position is not None and has_media(position) else None
    rows = tuple(row for row in position.rows if has_media(row))
    return WindowRows(rows) if rows else None


def clip_positions(clips: pa.Table) -> dict[int, int | WindowRows]:
    """Every clip of a manifest once: its first row to its row or, where there are windows, to the windows' rows.

    Where the store holds a clip both whole and as windows, the windows count.
    """
    owners, spans = whole_ids(clips), clip_spans(clips)
    windows: dict[str, list[int]] = defaultdict(list)
    for row, (owner, span) in enumerate(zip(owners, spans, strict=True)):
        if span is not None:
            windows[owner].append(row)
    positions: dict[int, int | WindowRows] = {}
    for row, owner in enumerate(owners):
        if owner not in windows:
            positions[row] = row
        elif row == windows[owner][0]:
            positions[row] = _in_time(windows[owner], spans)
    return positions


def resolve_clips(
    clips: pa.Table,
    questions: Sequence[Question],
    source: str = "the store",
    positions: Sequence[ClipPosition] | None = None,
) -> ResolvedClips:
    """Find the clip of every question in a store's manifest.

    A question's `video` matches a clip if it is its `clip_id` or its `path`, or the end of either in whole path parts,
    with or without the file's suffix: `part_1/1.mp4` matches `Clip/original/part_1/1.mp4`. The longest match has to be
    the only one. A clip that the store holds as windows is found by its own name, and a window by the window's. Where
    the store holds a clip both whole and as windows, the windows count.

    Args:
        clips: The manifest, with `clip_id` and `path`.
        questions: Questions whose clips are wanted.
        source: What the manifest describes, for the reasons in `ResolvedClips.absent`.
        positions: What each row stands for, such as media files; None for the rows themselves.
    """
    names, owners, spans = clips["clip_id"].to_pylist(), whole_ids(clips), clip_spans(clips)
    index = _suffix_index(owners, clips["path"].to_pylist())
    single = _window_index(names, spans)
    resolved = ResolvedClips()
    for question in questions:
        found = single.get(question.video.lstrip("./"), set()) or index.get(_parts(question.video), set())
        exact = {row for row in found if question.video in (names[row], owners[row])} or found
        matching = sorted({owners[row] for row in exact})
        windows = [row for row in exact if spans[row] is not None]
        if not exact:
            resolved.absent[question.id] = f"no clip {question.video} in {source}"
        elif len(matching) > 1:
            shown = ", ".join(matching[:3])
            resolved.absent[question.id] = f"{question.video} fits {len(matching)} clips of {source} ({shown})"
        elif windows and len(exact) > 1:
            resolved.positions[question.id] = _in_time(windows, spans)
        else:
            resolved.positions[question.id] = min(exact) if positions is None else positions[min(exact)]
    return resolved


def _in_time(rows: Sequence[int], spans: Sequence[Span | None]) -> WindowRows:
    """Windows in the order of time."""
    return WindowRows(tuple(sorted(rows, key=lambda row: (spans[row] or (0.0, 0.0), row))))


def _suffix_index(names: Sequence[str], paths: Sequence[str]) -> Mapping[tuple[str, ...], set[int]]:
    index: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for row, (name, path) in enumerate(zip(names, paths, strict=True)):
        for parts in {_parts(name), _parts(path)}:
            for start in range(len(parts)):
                index[parts[start:]].add(row)
    return index


def _window_index(names: Sequence[str], spans: Sequence[Span | None]) -> Mapping[str, set[int]]:
    """Rows by a window's own name, or its end in whole path parts; a window's name has no suffix to leave out."""
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
