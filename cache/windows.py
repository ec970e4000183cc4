"""Windows: a long clip as several clips of at most 30 s each, named `ID@0-30`, `ID@30-60`, `ID@60-75`.

A window is an ordinary clip of the store; its manifest row says which part of the file it is (`start_s`, `end_s`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

WINDOW_S = 30
"""Length of a window in seconds: as much sound as the audio encoder takes."""
MIN_WINDOW_S = 1
"""A remainder that is shorter gets no window."""

Span = tuple[float, float]
"""Start and end in seconds after the clip's first frame."""

_NAME = re.compile(r"(?P<clip>.+)@(?P<start>\d+)-(?P<end>\d+)", re.DOTALL)


def window_spans(duration_s: float) -> list[Span]:
    """The windows of a clip, in order; none where it stays whole because it has no second window.

    Args:
        duration_s: The clip's length in seconds.

    Example:
        >>> window_spans(75.5)
        [(0.0, 30.0), (30.0, 60.0), (60.0, 75.5)]
        >>> window_spans(60.4)
        [(0.0, 30.0), (30.0, 60.0)]
        >>> window_spans(30.9)
        []
    """
    spans: list[Span] = []
    start = 0
    while duration_s - start >= MIN_WINDOW_S:
        spans.append((float(start), min(float(start + WINDOW_S), duration_s)))
        start += WINDOW_S
    return spans if len(spans) > 1 else []


def is_long(duration_s: float | None) -> bool:
    """Whether a clip is longer than 30 s; a tenth of a second more is how codecs pad the last packet."""
    return duration_s is not None and duration_s > WINDOW_S + 0.1


def window_id(clip_id: str, span: Span) -> str:
    """Name of a window, in whole seconds.

    Example:
        >>> window_id("talks/one", (60.0, 75.5))
        'talks/one@60-75'
    """
    return f"{clip_id}@{int(span[0])}-{int(span[1])}"


def whole_id(name: str) -> str:
    """The clip that a window's name belongs to; any other name as it is.

    Example:
        >>> whole_id("talks/one@60-75"), whole_id("talks/one")
        ('talks/one', 'talks/one')
    """
    match = _NAME.fullmatch(name)
    return name if match is None else match["clip"]


def windows_of(clip_id: str, names: Iterable[str]) -> list[str]:
    """Which names are windows of a clip, in the order of time."""
    found = {name: match for name in names if name.startswith(f"{clip_id}@") and (match := _NAME.fullmatch(name))}
    mine = [name for name, match in found.items() if match["clip"] == clip_id]
    return sorted(mine, key=lambda name: int(found[name]["start"]))


def named_windows(clip_id: str, names: Iterable[str], shown: int = 4) -> str:
    """What to say of a clip that a store holds only as windows; empty where it has none."""
    windows = windows_of(clip_id, names)
    if not windows:
        return ""
    more = f" and {len(windows) - shown} more" if len(windows) > shown else ""
    return f"the store holds it as the windows {', '.join(windows[:shown])}{more}; name one of them"


def clip_spans(clips: pa.Table) -> list[Span | None]:
    """Which part of its file each row of a manifest is; None where it is all of it."""
    if "start_s" not in clips.column_names:
        return [None] * len(clips)
    starts, ends = clips["start_s"].to_pylist(), clips["end_s"].to_pylist()
    return [None if start is None or end is None else (start, end) for start, end in zip(starts, ends, strict=True)]


def whole_ids(clips: pa.Table) -> list[str]:
    """The whole clip of each row of a manifest: of a window the clip that it is part of, else the row's own id."""
    names: Sequence[str] = clips["clip_id"].to_pylist()
    spans = clip_spans(clips)
    return [name if span is None else whole_id(name) for name, span in zip(names, spans, strict=True)]
