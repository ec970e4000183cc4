"""One page on training runs: the same metric of every run on common axes, and which settings differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avem import __version__
from avem.errors import DataError
from avem.evaluate.page import page_environment
from avem.evaluate.report.curves import Floats, Panel, compare, last_known, read_curves, read_metrics, short, smoothed
from avem.evaluate.report.wording import COMPARED, NATS
from avem.files import save_page
from avem.sealed.files import read_sealed
from avem.sealed.step_log import read_steps
from avem.starts import tuned_model
from avem.train.run.rewards import reward_warnings

SPEEDS = {"rows_per_s": "Rows a second", "tokens_per_s": "Tokens a second", "share_of_peak": "Share of matmul peak"}
"""Metrics of which the median over the run counts."""

PATHS = frozenset({"out", "cache", "model", "prefs", "data", "resume", "trackers"})
"""Settings that name paths and do not change what is computed."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run directory holds."""

    name: str
    steps: Floats
    metrics: dict[str, Floats]
    settings: dict[str, Any]
    """As `config.json` has them; empty where there is none."""
    finished: bool
    warnings: tuple[str, ...] = ()
    """What was said of its rows and negatives when it began."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: one text for each run."""

    name: str
    values: tuple[str, ...]


def write_run_report(path: Path | str, runs: Sequence[Path | str], *, title: str = "Training") -> Path:
    """Write one self-contained page on one or several training runs.

    Args:
        path: The HTML file to write.
        runs: Run directories.
        title: What the page is called.

    Returns:
        The page's path.

    Raises:
        DataError: No run is given, or one has logged no step yet.
        MissingFileError: A directory is not a run.
    """
    folders = [Path(run) for run in runs]
    if not folders:
        raise DataError("A report on training needs at least one run directory.")
    read = [_read(folder, name) for folder, name in zip(folders, distinct_names(folders), strict=True)]
    page = (
        page_environment()
        .get_template("runs.html.jinja")
        .render(
            title=title,
            names=[run.name for run in read],
            states=[_state(run) for run in read],
            warnings=[_warnings(folder, run) for folder, run in zip(folders, read, strict=True)],
            panels=_panels(read),
            endings=_endings(read),
            differences=differences(read),
            settings=_all_settings(read),
            runs=[read_curves(folder) for folder in folders],
            version=__version__,
        )
    )
    save_page(Path(path), page)
    return Path(path)


def is_run(path: Path) -> bool:
    """Whether a path is a run directory rather than a bench result."""
    return (path / "metrics.jsonl").is_file()


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """The directories' names, with as many of their parents as are needed to make them distinct."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{folder.name} ({number})" for number, folder in enumerate(folders, 1)]


def differences(runs: Sequence[Run]) -> list[Line]:
    """Settings in which runs differ; an option that a run does not have is empty there."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in PATHS)
    lines = [Line(name, tuple(_text(run.settings.get(name)) for run in runs)) for name in names]
    return [line for line in lines if len(set(line.values)) > 1]


def _read(folder: Path, name: str) -> Run:
    steps, metrics = read_metrics(folder)
    file = folder / "config.json"
    record = read_sealed(file) if file.is_file() else {}
    settings, warnings = record.get("settings"), record.get("warnings")
    return Run(
        name,
        steps,
        metrics,
        settings if isinstance(settings, dict) else {},
        (folder / "final").is_dir(),
        tuple(map(str, warnings)) if isinstance(warnings, list) else (),
    )


def _state(run: Run) -> str:
    start = tuned_model(str(run.settings.get("model", "")))
    started = "" if start is None else f", started from {start.label}"
    return f"{run.steps[-1]:.0f} steps" + ("" if run.finished else ", not finished") + started


def _warnings(folder: Path, run: Run) -> list[str]:
    """What was said when the run began, and answers whose rewards ended on the wrong side of 0, one sentence each."""
    rewards = reward_warnings(read_steps(folder / "metrics.jsonl"), str(run.settings.get("rejected", "weighted")))
    return [*run.warnings, *rewards]


def _panels(runs: Sequence[Run]) -> list[Panel]:
    """A panel for each metric that any of several runs has; runs without it are left out."""
    if len(runs) == 1:
        return []
    panels = []
    for metric, title in COMPARED.items():
        series = {run.name: (run.steps, run.metrics[metric]) for run in runs if metric in run.metrics}
        if series:
            panels.append(compare(title, series, series.keys() if metric in NATS else ()))
    return panels


def _endings(runs: Sequence[Run]) -> list[Line]:
    """Where each metric ended, as a running mean, and the speeds."""

    def row(metric: str, title: str, *, median: bool) -> Line:
        found = [run.metrics.get(metric) for run in runs]
        numbers = [
            None if values is None else float(np.nanmedian(values)) if median else last_known(smoothed(values))
            for values in found
        ]
        return Line(title, tuple("" if number is None else short(number) for number in numbers))

    lines = [row(metric, title, median=False) for metric, title in COMPARED.items()]
    lines += [row(metric, title, median=True) for metric, title in SPEEDS.items()]
    return [line for line in lines if any(line.values)]


def _all_settings(runs: Sequence[Run]) -> list[Line]:
    names = sorted({name for run in runs for name in run.settings if name not in PATHS})
    return [Line(name, tuple(_text(run.settings.get(name)) for run in runs)) for name in names]


def _text(value: Any) -> str:
    return "" if value is None else str(value)
