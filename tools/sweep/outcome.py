"""A sweep's table, figure and raw results."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.evaluate.sheets import Sheet
from avem.files import write_atomic
from avem.sealed.files import write_sealed
from avem.tools.sweep.grid import BASE, Grid, GridRun
from avem.tools.sweep.measures import BENCHED, MEASURES, RECOGNISED
from avem.tools.sweep.run import RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DODGE = 0.06
"""Horizontal offset between curves, as a share of a step, so that their error bars don't overlap."""


def write_outcome(grid: Grid, results: Sequence[RunResult], folder: Path) -> Sheet:
    """Write `<grid>.json` (raw results), `<grid>.md` and `<grid>.svg`; returns the table."""
    sheet = make_sheet(grid, results)
    found = [{"run": one.run, "seed": one.seed, "measures": dict(one.measures)} for one in results]
    raw = {"grid": grid.name, "title": grid.title, "results": found}
    write_sealed(folder / f"{grid.name}.json", raw)
    write_atomic(folder / f"{grid.name}.md", f"{grid.title}\n\n{sheet.form('markdown')}")
    write_atomic(folder / f"{grid.name}.svg", draw(grid, results))
    return sheet


def make_sheet(grid: Grid, results: Sequence[RunResult]) -> Sheet:
    """One row a run: each measure's mean over the seeds, its standard deviation, and the paper's figure."""
    columns = table_columns(grid, results)
    header = ["run", "seeds", *(MEASURES[column] for column in columns)]
    with_paper = [column for column in columns if column in grid.columns and any(run.paper for run in grid.rows)]
    header += [f"paper: {MEASURES[column]}" for column in with_paper]
    rows, records = [], []
    for run in grid.rows:
        own = [result for result in results if result.run == run.name]
        if not own:
            continue
        record: dict[str, Any] = {"run": run.name, "seeds": len(own)}
        cells = [run.name, str(len(own))]
        for column in columns:
            values = [result.measures[column] for result in own if column in result.measures]
            mean = statistics.fmean(values) if values else None
            deviation = statistics.stdev(values) if len(values) > 1 else None
            record |= {column: mean, f"{column}_sd": deviation}
            cells.append(_cell(column, mean, deviation))
        for column in with_paper:
            paper = _figure(run.paper, grid.columns.index(column))
            record[f"paper_{column}"] = paper
            cells.append(_cell(column, paper, None))
        rows.append(tuple(cells))
        records.append(record)
    for block in grid.blocks:
        for name, figures in block.paper.items():
            shown = [_figure(figures, grid.columns.index(column)) for column in with_paper]
            label = block.model if name == BASE else f"{block.model} + {name}"
            printed = [_cell(column, one, None) for column, one in zip(with_paper, shown, strict=True)]
            rows.append((label, "paper", *("" for _ in columns), *printed))
            records.append(
                {"run": label, "seeds": 0, **{f"paper_{c}": one for c, one in zip(with_paper, shown, strict=True)}}
            )
    return Sheet(grid.title, tuple(header), tuple(rows), tuple(records), _note(columns, results))


def _figure(figures: Sequence[float], index: int) -> float | None:
    """One of the paper's figures; None where it has none, or a dash."""
    return None if not figures or math.isnan(figures[index]) else figures[index]


def table_columns(grid: Grid, results: Sequence[RunResult]) -> list[str]:
    """The grid's columns, measured or not, so that the paper's figures stay; without any, those that some run has."""
    return list(grid.columns) or shown_columns(grid, results)


def _note(columns: Sequence[str], results: Sequence[RunResult]) -> str:
    """A sentence on columns that no run has; empty where there is none."""
    empty = [MEASURES[name] for name in columns if not any(name in result.measures for result in results)]
    if not empty:
        return ""
    needs = "the questions carry no subtasks; `avem emorealm subtasks` labels them, and --subtasks reads the labels"
    by_subtask = {MEASURES["spurious"], MEASURES["hallucinated"]}
    sets = {MEASURES[name] for name in RECOGNISED}
    if set(empty) <= sets:
        needs = "the store holds no clips of these sets; `avem extract` adds them"
    elif not set(empty) <= by_subtask:
        needs = "nothing was measured"
    return f"{' and '.join(empty)}: {needs}."


def shown_columns(grid: Grid, results: Sequence[RunResult]) -> list[str]:
    """The grid's columns, or without any those that some run has."""
    wanted = grid.columns or tuple(MEASURES)
    return [column for column in wanted if any(column in result.measures for result in results)]


def draw(grid: Grid, results: Sequence[RunResult]) -> str:
    """An SVG: a line a measure for every curve of the grid, else a group of bars a run."""
    from matplotlib.figure import Figure

    columns = shown_columns(grid, results)
    curves = list(dict.fromkeys(run.curve for run in grid.runs if run.curve))
    figure = Figure(figsize=(4.2 * max(len(curves), 2), 3.4), layout="constrained")
    panels = figure.subplots(1, max(len(curves), 1), squeeze=False)[0]
    for panel, curve in zip(panels, curves, strict=False):
        runs = sorted((run for run in grid.runs if run.curve == curve), key=lambda run: run.value)
        for number, column in enumerate(columns):
            _line(panel, runs, results, column, DODGE * (number - (len(columns) - 1) / 2))
        panel.set_xticks(range(len(runs)), [f"{run.value:g}" for run in runs])
        panel.set_xlabel(curve)
    if not curves:
        _bars(panels[0], grid.rows, results, columns)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small", frameon=False)
    figure.suptitle(grid.title, fontsize="medium")
    return svg_text(figure, grid.name)


def svg_text(figure: Figure, salt: str) -> str:
    """A figure as SVG, the same whenever it is drawn; the salt keeps the marks of several on one page distinct."""
    from matplotlib import rc_context

    sink = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": "avem, with Matplotlib"})
    return sink.getvalue()


def _line(panel: Any, runs: Sequence[GridRun], results: Sequence[RunResult], column: str, dodge: float) -> None:
    """Values of the curve side by side whatever lies between them: one is often many times the others."""
    points = [(position, _values(run, results, column)) for position, run in enumerate(runs)]
    points = [(position, values) for position, values in points if values]
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
    means = [statistics.fmean(values) for _, values in points]
    panel.errorbar(
        [position + dodge for position, _ in points], means, yerr=spread, marker="o", capsize=2, label=MEASURES[column]
    )


def _bars(panel: Any, runs: Sequence[GridRun], results: Sequence[RunResult], columns: Sequence[str]) -> None:
    shown = [run for run in runs if any(result.run == run.name for result in results)]
    width = 0.8 / max(len(columns), 1)
    for position, column in enumerate(columns):
        values = [_values(run, results, column) for run in shown]
        means = [statistics.fmean(own) if own else 0.0 for own in values]
        spread = [statistics.stdev(own) if len(own) > 1 else 0.0 for own in values]
        centres = [number + (position - (len(columns) - 1) / 2) * width for number in range(len(shown))]
        panel.bar(centres, means, width, yerr=spread, capsize=2, label=MEASURES[column])
    panel.set_xticks(range(len(shown)), [run.name for run in shown], rotation=20, ha="right", fontsize="small")


def _values(run: GridRun, results: Sequence[RunResult], column: str) -> list[float]:
    own = [result for result in results if result.run == run.name]
    return [result.measures[column] for result in own if column in result.measures]


def _cell(column: str, mean: float | None, deviation: float | None) -> str:
    """A mean with its deviation: percent to a tenth, others as precisely as they are small."""
    if mean is None:
        return ""
    own, spread = (".3g", ".2g")
    if column in BENCHED:
        own, spread = (".1f", ".1f")
    elif column in RECOGNISED:
        own, spread = (".2f", ".2f")  # as Table 2 prints them
    return f"{mean:{own}}" if deviation is None else f"{mean:{own}} ± {deviation:{spread}}"
