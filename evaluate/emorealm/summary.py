"""The headline table: one row a task, one column a model, in forms for a terminal, a page, a spreadsheet, a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from avem.errors import DataError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.metrics import group_by_task
from avem.evaluate.emorealm.questions import task_name
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.emorealm.statistics import compare
from avem.evaluate.sheets import csv_text, latex_table, markdown_table
from avem.text.escaping import one_line

AVERAGE = "average"

METRIC_NAMES = {"accuracy": "accuracy", "f1": "F1"}


@dataclass(frozen=True, slots=True)
class Value:
    """A number in percent with its 95 % interval, where one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.1f}"
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True, slots=True)
class Delta:
    """Another model minus the first, in percentage points, on the same questions."""

    difference: float
    low: float
    high: float
    p: float | None = None
    """McNemar's exact test on right and wrong answers; None for the average over tasks."""

    def __str__(self) -> str:
        return f"{self.difference:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One task, or the average over tasks, for all models."""

    task: str
    name: str
    metric: str
    """`accuracy`, or for yes/no tasks `f1`, as the paper's Table 3 has it."""
    n: int
    chance: float | None
    """Expected score of blind guessing, in percent."""
    text_only: tuple[Value | None, ...]
    """Each model without media."""
    values: tuple[Value | None, ...]
    """Each model."""
    deltas: tuple[Delta | None, ...]
    """Each model against the first; None for the first itself."""


def summarise(results: Sequence[BenchResult], *, resamples: int = RESAMPLES, seed: int = 0) -> list[SummaryRow]:
    """Headline rows of one or several results on the same questions, the first one being what others are compared with.

    Raises:
        DataError: There is no result, or they cover different questions.
    """
    if not results:
        raise DataError("There is no bench result to summarise.")
    base = results[0]
    compared = [compare(base.outcomes(), other.outcomes(), resamples, seed) for other in results[1:]]
    rows = [_task_row(task, results, compared) for task in group_by_task(base.outcomes())]
    chances = [row.chance for row in rows if row.chance is not None]
    average = SummaryRow(
        AVERAGE,
        "Average accuracy",
        "accuracy",
        len(base.items),
        sum(chances) / len(chances),
        tuple(_average(result, "text_only") for result in results),
        tuple(_average(result, result.method) for result in results),
        (None, *(Delta(**comparison["average_accuracy"]) for comparison in compared)),
    )
    return [*rows, average]


def to_table(rows: Sequence[SummaryRow], names: Sequence[str], title: str = "EmoReAlM") -> Table:
    """The rows for a terminal: narrow, with intervals below their numbers."""
    table = Table(
        title=f"{title}, percent [95 % interval]",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    names = [one_line(name) for name in names]
    deltas = (f"{name}\n- {names[0]}" for name in names[1:])
    for number, column in enumerate(("", "chance", "text\nonly", *names, *deltas)):
        table.add_column(Text(column), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        _, metric, count, *numbers = _cells(row)
        cells = [Text(cell.replace(" [", "\n[").replace(" / ", "\n")) for cell in numbers]
        task = Text.assemble(one_line(row.name), (f"\n{metric}, n = {count}", "dim"))
        table.add_row(task, *cells, end_section=row is rows[-2])
    return table


def to_markdown(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The rows as a Markdown table."""
    return markdown_table(_header(names), [_cells(row) for row in rows])


def to_latex(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The rows as a LaTeX table for the package booktabs."""
    return latex_table(_header(names), [_cells(row) for row in rows])


def to_csv(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The rows as CSV, one line a task and model, full precision."""
    fields = (
        "task",
        "metric",
        "model",
        "n",
        "chance",
        "text_only",
        "value",
        "low",
        "high",
        "difference",
        "difference_low",
        "difference_high",
        "p",
    )
    records = []
    for row in rows:
        for name, value, text_only, delta in zip(names, row.values, row.text_only, row.deltas, strict=True):
            cells = {"task": row.task, "metric": row.metric, "model": name, "n": row.n, "chance": row.chance}
            cells |= {"text_only": text_only.value if text_only else None} | (asdict(value) if value else {})
            if delta:
                cells |= {"difference": delta.difference, "p": delta.p}
                cells |= {"difference_low": delta.low, "difference_high": delta.high}
            records.append({field: cells.get(field) for field in fields})
    return csv_text(records)


def to_json(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The rows as JSON."""
    return json.dumps({"models": list(names), "rows": [asdict(row) for row in rows]}, indent=1)


def _task_row(task: str, results: Sequence[BenchResult], compared: Sequence[dict[str, Any]]) -> SummaryRow:
    numbers = results[0].score["tasks"][task]
    metric = "accuracy" if numbers["f1"] is None else "f1"
    return SummaryRow(
        task,
        task_name(task),
        metric,
        numbers["n"],
        numbers["chance"],
        tuple(_value(result, "text_only", task, metric) for result in results),
        tuple(_value(result, result.method, task, metric) for result in results),
        (None, *(_delta(comparison["tasks"][task], metric) for comparison in compared)),
    )


def _value(result: BenchResult, method: str, task: str, metric: str) -> Value | None:
    score = result.scores.get(method)
    value = score["tasks"][task][metric] if score else None
    if score is None or value is None:
        return None
    return Value(value, *score.get("intervals", {}).get("tasks", {}).get(task, {}).get(metric, ()))


def _average(result: BenchResult, method: str) -> Value | None:
    score = result.scores.get(method)
    if score is None:
        return None
    return Value(score["average_accuracy"], *score.get("intervals", {}).get("average_accuracy", ()))


def _delta(comparison: dict[str, Any], metric: str) -> Delta | None:
    difference = comparison["metrics"].get(metric)
    return Delta(**difference, p=comparison["mcnemar"]["p"]) if difference else None


def _header(names: Sequence[str]) -> list[str]:
    return ["task", "metric", "n", "chance", "text only", *names, *(f"{name} - {names[0]}" for name in names[1:])]


def _cells(row: SummaryRow) -> list[str]:
    chance = "" if row.chance is None else f"{row.chance:.1f}"
    text_only = " / ".join("" if value is None else f"{value.value:.1f}" for value in row.text_only).strip(" /")
    values = ["" if value is None else str(value) for value in row.values]
    deltas = ["" if delta is None else str(delta) for delta in row.deltas[1:]]
    return [row.name, METRIC_NAMES[row.metric], str(row.n), chance, text_only, *values, *deltas]
