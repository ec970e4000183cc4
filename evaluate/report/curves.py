"""Training curves of a run as panels of SVG paths."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avem.errors import DataError, MissingFileError
from avem.evaluate.report.wording import NATS, PANELS, says, shown_name
from avem.sealed.step_log import read_steps
from avem.text.numbers import short_number

WIDTH, HEIGHT = 300.0, 100.0
"""The box that paths are drawn in; the page stretches it."""

MAX_POINTS = 300
FEW_POINTS = 12
"""A curve of no more measurements shows each as a dot, so that a single one is seen."""
SMOOTHING = 0.06
"""A smoothed point remembers about the last 6 % of the run."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric."""

    name: str
    last: str
    """Smoothed value at the end, as shown."""
    raw: str
    """SVG path data of every step, or of means of neighbouring steps."""
    smooth: str
    dots: str = ""
    """SVG path data of a dot at each measurement of a curve with few; else empty."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share their axes."""

    title: str
    says: str
    """What the panel shows and how to read it, in a sentence or two."""
    low: str
    high: str
    zero: float | None
    """Height of the zero line in the box, where zero lies inside."""
    first: int
    steps: int
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class RunCurves:
    """A run's panels."""

    name: str
    panels: tuple[Panel, ...]


def read_metrics(run: Path) -> tuple[Floats, dict[str, Floats]]:
    """Read a run directory's `metrics.jsonl`, one object a step.

    Returns:
        Numbers of the steps, float64 [steps], and each metric likewise, nan where a step has none.

    Raises:
        MissingFileError: The run has none.
        DataError: A line is not an object or is not what was written, or there is no line yet.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise MissingFileError(f"There is no {path}; give run directories that `avem train` made.")
    records = read_steps(path)
    if not records:
        raise DataError(f"{path} holds no step yet; wait for the run's first.")
    columns = _columns(records)
    return columns.pop("step", np.arange(1, len(records) + 1, dtype=float)), columns


def read_curves(run: Path) -> RunCurves:
    """The panels of one run; raises as `read_metrics`."""
    steps, columns = read_metrics(run)
    taken: set[str] = set()
    panels = []
    for title, patterns in PANELS:
        names = [name for name in columns if name not in taken and any(fnmatch(name, pattern) for pattern in patterns)]
        taken.update(names)
        if names:
            panels.append(make_panel(title, steps, {name: columns[name] for name in names}))
    return RunCurves(run.name, tuple(panels))


def make_panel(title: str, steps: Floats, series: dict[str, Floats]) -> Panel:
    """Draw series, float64 [steps] each and nan where not measured, on common axes."""
    nats = frozenset(shown_name(name) for name in series if name in NATS)
    return compare(title, {shown_name(name): (steps, values) for name, values in series.items()}, nats)


def compare(title: str, series: Mapping[str, tuple[Floats, Floats]], nats: Collection[str] = ()) -> Panel:
    """Draw series that have steps of their own on common axes.

    Args:
        title: Of the panel.
        series: By the name that the page shows, steps and values, float64 [steps] each; nan where not measured.
        nats: Those that are differences of log-probabilities; their last value is also shown as a ratio.
    """
    smooth = {name: np.where(np.isnan(values), np.nan, smoothed(values)) for name, (_, values) in series.items()}
    seen = np.concatenate([np.concatenate([values, smooth[name]]) for name, (_, values) in series.items()])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin
    first, last = min(steps[0] for steps, _ in series.values()), max(steps[-1] for steps, _ in series.values())
    box = (float(first), float(last), low, high)
    curves = tuple(
        Curve(
            name,
            _last(last_known(smooth[name]), name in nats),
            _path(steps, values, box),
            _path(steps, smooth[name], box),
            _dots(steps, values, box),
        )
        for name, (steps, values) in series.items()
    )
    zero = HEIGHT * high / (high - low) if low < 0 < high else None
    least, most = (0.0 if abs(bound) < 1e-3 * (high - low) else bound for bound in (low + margin, high - margin))
    return Panel(title, says(title), short(least), short(most), zero, int(first), int(last), curves)


def smoothed(values: Floats) -> Floats:
    """Exponential mean of the past measurements, corrected for its beginning; where there is none, the last mean."""
    keep = 1 - 1 / max(1.0, SMOOTHING * np.count_nonzero(~np.isnan(values)))
    total = weight = 0.0
    result = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        if not np.isnan(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        result[index] = total / weight if weight else np.nan
    return result


def _columns(records: Sequence[dict[str, Any]]) -> dict[str, Floats]:
    """Metrics that are numbers: float64 [steps], nan where a step has none."""
    names = dict.fromkeys(name for record in records for name, value in record.items() if _isshort(value))
    return {
        name: np.array([record[name] if _isshort(record.get(name)) else np.nan for record in records], dtype=float)
        for name in names
    }


def _isshort(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _path(steps: Floats, values: Floats, box: tuple[float, float, float, float]) -> str:
    """SVG path data of the known values; `box` holds the first and last step and the lowest and highest value."""
    first, last, low, high = box
    known = ~np.isnan(values)
    groups = np.array_split(np.flatnonzero(known), min(MAX_POINTS, max(1, int(known.sum()))))
    span = max(last - first, 1e-9)
    points = []
    for group in groups:
        if len(group):
            x = WIDTH * (steps[group].mean() - first) / span
            y = HEIGHT * (high - values[group].mean()) / (high - low)
            points.append(f"{x:.1f} {y:.1f}")
    dot = "h0" if len(points) == 1 else ""  # which the line's round ends make visible
    return "M" + "L".join(points) + dot if points else ""


def _dots(steps: Floats, values: Floats, box: tuple[float, float, float, float]) -> str:
    """SVG path data of a dot at each known value, where there are few."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > FEW_POINTS:
        return ""
    return "".join(_path(steps[index : index + 1], values[index : index + 1], box) for index in known)


def _last(value: float, nats: bool) -> str:
    """A curve's last value as the legend shows it; nats also as a ratio of probabilities."""
    if not nats:
        return short(value)
    factor = float(np.exp(value))
    ratio = "as probable" if f"{factor:.2g}" == "1" else f"{factor:.3g} times as probable"
    return f"{short(value)} nats ({ratio})"


def last_known(values: Floats) -> float:
    """The last value that is not nan; nan where there is none."""
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else float("nan")


def short(value: float) -> str:
    """A number with three digits, as pages show it."""
    text = short_number(value)
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
