"""Trials on the validation clips: settings to choose from, and curves of what limits the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from avem.evaluate.sheets import Sheet
from avem.sealed.files import read_sealed, write_sealed
from avem.tools.project.proof.ground.making import USUAL, BaseKind, Ground, Rows, make_bases, with_clips
from avem.tools.project.proof.plan import Point
from avem.tools.project.proof.results.counts import MEASURES
from avem.tools.project.proof.results.odds import DETECTION
from avem.tools.project.proof.results.record import Answered, Record, intact
from avem.tools.sweep.grid import Grid, GridRun, read_grid
from avem.tools.sweep.run import RunResult, SweepOptions, run_sweeps

SETTINGS, CURVES_NAME = "settings", "curves"
"""Grid of what the small model's settings are chosen from, and what the curves' file is called."""
COLUMNS = ("basic", "agree", "stress", "spurious", "hallucinated")


def try_candidates(sweep: SweepOptions, settings: Mapping[str, Any], folder: Path, name: str = SETTINGS) -> Sheet:
    """Try the candidates of a grid on the validation clips.

    Args:
        sweep: Where everything is, with the seeds of every candidate.
        settings: What the caller has changed in every run, kept with the result.
        folder: The proof's folder; `NAME.json` goes there.
        name: Of the grid.

    Returns:
        Every candidate's measures, with their standard deviation over seeds; the last column is what they are chosen
        by, the mean of the basic, agreement and stress scores.
    """
    tried = [
        {"run": found.run, "seed": found.seed, **own, "mean": sum(own[name] for name in COLUMNS[:3]) / 3}
        for found in run_sweeps([read_grid(name)], sweep)[0]
        for own in [measured(found)]
    ]
    write_sealed(folder / f"{name}.json", {"settings": dict(settings), "tried": tried})
    return candidates_sheet(tried)


def read_trials(folder: Path, settings: Mapping[str, Any], name: str = SETTINGS) -> dict[str, list[dict[str, Any]]]:
    """What `try_candidates` and `trace` left in the proof's folder.

    Args:
        folder: The proof's folder.
        settings: What is changed in every run now; trials with other settings do not count.
        name: Of the grid of candidates. Curves are of those of `SETTINGS`.

    Returns:
        `candidates` and `curves`, each where it has run.

    Raises:
        DataError: A file is damaged.
    """
    kept = [("candidates", name, "tried", candidates_sheet)]
    kept += [("curves", CURVES_NAME, "points", curves_sheet)] if name == SETTINGS else []
    found = {}
    for part, stem, key, sheet in kept:
        file = folder / f"{stem}.json"
        if file.is_file():
            with intact(str(file), f"delete it, or run `avem proof run --part {stem}`"):
                content = read_sealed(file)
                sheet(content[key])
                if content["settings"] == dict(settings):
                    found[part] = content[key]
    return found


def candidates_sheet(found: Sequence[Mapping[str, Any]]) -> Sheet:
    """What was tried on the validation clips: means over seeds, of several with their standard deviation."""
    titles = {**MEASURES, **DETECTION}
    columns = [name for name in found[0] if name in titles]
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        by_run.setdefault(one["run"], []).append(one)
    rows = tuple(
        (run, str(len(own)), *(_mean_and_spread([one[name] for one in own]) for name in (*columns, "mean")))
        for run, own in by_run.items()
    )
    header = ("run", "seeds", *(titles[name] for name in columns), "mean of the first three")
    return Sheet("Settings tried on the validation clips", header, rows, tuple(found))


def _mean_and_spread(values: Sequence[float]) -> str:
    """As `54.0 ± 1.2`; without the deviation of one value."""
    return f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def trace(
    points: Sequence[Point],
    ground: Ground,
    sweep: SweepOptions,
    base_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Sheet:
    """Make every point of some curves that is not there yet.

    Args:
        points: What to make.
        ground: Where everything is; `curves.json` goes into the proof's folder.
        sweep: Settings of every run, asked about the validation clips; bases, rows and folders are the points' own.
        base_settings: Of the bases' training, over the preset `proof`.
        settings: What the caller has changed in every run, kept with the result.

    Returns:
        For each point: `curve`, `value`, the measures of the run, and those of its base with `base_` before them.
    """
    groups: dict[tuple[BaseKind, Rows], list[Point]] = {}
    for point in points:
        groups.setdefault((point.base, point.rows), []).append(point)
    kinds = list(dict.fromkeys(kind for kind, _ in groups if kind != USUAL))
    paths = dict(zip(kinds, make_bases(ground, kinds, base_settings, sweep.workers), strict=True))
    grounds = {clips: with_clips(ground, clips) for clips in dict.fromkeys(rows.clips for _, rows in groups)}
    made: dict[tuple[str, str], dict[str, float]] = {}
    for (kind, rows), own in groups.items():
        runs = tuple(GridRun(f"{one.curve} = {one.value}", one.settings) for one in own)
        grid = Grid("curves", "", COLUMNS, sweep.seeds, runs, base=GridRun("base", {}))
        where = sweep.out / "-".join(filter(None, (kind.folder, rows.form, str(rows.clips))))
        cache, prefs = grounds[rows.clips].cache, grounds[rows.clips].preferences(rows)
        asked = replace(sweep, cache=cache, model=paths.get(kind, sweep.model), prefs=prefs, out=where)
        base, *results = run_sweeps([grid], asked)[0]
        before = {f"base_{name}": value for name, value in measured(base).items()}
        for point, each in zip(own, results, strict=True):
            made[point.curve, point.value] = {**measured(each), **before}
    found = [{"curve": one.curve, "value": one.value, **made[one.curve, one.value]} for one in points]
    write_sealed(ground.out / f"{CURVES_NAME}.json", {"settings": dict(settings), "points": found})
    return curves_sheet(found)


def curves_sheet(found: Sequence[Mapping[str, Any]]) -> Sheet:
    """Every point of the curves: the run's measures, and what its base tells apart."""
    columns = [*COLUMNS, *DETECTION, "base_auc_spurious", "base_auc_hallucinated"]
    titles = {**MEASURES, **DETECTION}
    heading = [titles.get(name) or f"base: {titles[name.removeprefix('base_')]}" for name in columns]
    rows = tuple((one["curve"], one["value"], *(f"{one[name]:.1f}" for name in columns)) for one in found)
    return Sheet("What limits the method", ("curve", "value", *heading), rows, tuple(found))


def measured(found: RunResult) -> dict[str, float]:
    """The paper's measures of a run and their threshold-free twins, in percent."""
    point, _ = Record.of({found.run: {0: Answered.of(found.folder)}}, {}).detected(resamples=1)
    twins = {name: float(point[found.run][name][0]) for name in DETECTION}
    return {**{name: found.measures[name] for name in COLUMNS}, **twins}
