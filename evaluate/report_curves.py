"""Training curves of a run as panels of SVG paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avem.errors import MissingFileError
from avem.files import read_json_lines

PANELS = (
    ("Loss", ("loss", "*loss*")),
    ("Rewards", ("reward*", "*rewards*")),
    ("Margin", ("*margin*",)),
    ("Share of pairs ranked right", ("*accuracy*",)),
)
"""Title of each panel and the names of the metrics it shows."""

SPOKEN = {
    "loss": "loss",
    "margin": "response (Eq. 10)",
    "input_margin": "input (Eq. 5)",
    "accuracy": "response",
    "input_accuracy": "input",
    "reward_w": "chosen",
    "reward_vr": "rejected, irrelevant cue",
    "reward_er": "rejected, absent cue",
    "reward_w_given_l": "chosen, on another clip",
}
"""Metrics of preference training as the page calls them; others keep their names."""

WIDTH, HEIGHT = 300.0, 100.0
"""The box that paths are drawn in; the page stretches it."""

MAX_POINTS = 300
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


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share their axes."""

    title: str
    low: str
    high: str
    zero: float | None
    """Height of the zero line in the box, where zero lies inside."""
    steps: int
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class RunCurves:
    """A run's panels."""

    name: str
    panels: tuple[Panel, ...]


def read_curves(run: Path) -> RunCurves:
    """Read a run directory's `metrics.jsonl`, one object a step.

    Raises:
        MissingFileError: The run has none.
        DataError: A line is not an object.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise MissingFileError(f"There is no {path}; give run directories that `avem train` made.")
    records = read_json_lines(path, dict)
    columns = _columns(records)
    steps = columns.pop("step", np.arange(1, len(records) + 1, dtype=float))
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
    smooth = {name: smoothed(values) for name, values in series.items()}
    seen = np.concatenate([np.concatenate([series[name], smooth[name]]) for name in series])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin
    curves = tuple(
        Curve(_spoken(name), _number(_last(smooth[name])), *(
            _path(steps, values, low, high) for values in (series[name], smooth[name])
        ))
        for name in series
    )  # fmt: skip
    zero = HEIGHT * high / (high - low) if low < 0 < high else None
    return Panel(title, _number(low + margin), _number(high - margin), zero, int(steps[-1]), curves)


def smoothed(values: Floats) -> Floats:
    """Exponential mean of the past, corrected for its beginning; nan is skipped."""
    keep = 1 - 1 / max(1.0, SMOOTHING * len(values))
    total = weight = 0.0
    result = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        if not np.isnan(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        result[index] = total / weight if weight else np.nan
    return result


def _columns(records: Sequence[dict[str, Any]]) -> dict[str, Floats]:
    """Metrics that are numbers: float64 [steps], nan where a step lacks one."""
    names = dict.fromkeys(name for record in records for name, value in record.items() if _is_number(value))
    return {
        name: np.array([record[name] if _is_number(record.get(name)) else np.nan for record in records], dtype=float)
        for name in names
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _path(steps: Floats, values: Floats, low: float, high: float) -> str:
    known = ~np.isnan(values)
    groups = np.array_split(np.flatnonzero(known), min(MAX_POINTS, max(1, int(known.sum()))))
    span = max(float(steps[-1] - steps[0]), 1e-9)
    points = []
    for group in groups:
        if len(group):
            x = WIDTH * (steps[group].mean() - steps[0]) / span
            y = HEIGHT * (high - values[group].mean()) / (high - low)
            points.append(f"{x:.1f} {y:.1f}")
    return "M" + "L".join(points) if points else ""


def _last(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else float("nan")


def _number(value: float) -> str:
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def _spoken(name: str) -> str:
    return SPOKEN.get(name, name.replace("_", " "))
