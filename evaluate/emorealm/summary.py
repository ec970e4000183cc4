"""The headline table: one row a task, one column a model, in forms for a terminal, a page, a spreadsheet, a program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from avem.errors import DataError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.metrics import group_by_task
from avem.evaluate.emorealm.questions import task_name
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.emorealm.statistics import compare
from avem.evaluate.intervals import FEWEST, few_note, interval_text
from avem.evaluate.sheets import csv_text, latex_table, markdown_table
from avem.text.tables import Table

AVERAGE = "average"

METRIC_NAMES = {"accuracy": "accuracy", "f1": "F1"}

OTHER_METHOD = {"likelihood": "generation", "generation": "likelihood"}
METHOD_NAMES = {"likelihood": "likeliest", "generation": "as written"}
"""What tables call the two methods: the likeliest option, and the option that the model writes (as the paper does)."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number in percent with its 95 % interval, where one is known."""

    value: float
    low: float | None = None
    high: float | None = None
    items: int = FEWEST
    """Questions that it is of; of fewer than `FEWEST`, the interval is not shown."""

    def __str__(self) -> str:
        return f"{self.value:.1f}{interval_text((self.low, self.high), self.items)}"


@dataclass(frozen=True, slots=True)
class Delta:
    """Another model minus the first, in percentage points, on the same questions."""

    difference: float
    low: float
    high: float
    p: float | None = None
    """McNemar's exact test on right and wrong answers; None for the average over tasks."""
    relative: float | None = None
    """The difference in percent of the first model's number (Table 13's last rows); None where that is 0."""
    items: int = FEWEST
    """Questions that it is of; of fewer than `FEWEST`, the interval is not shown."""

    def __str__(self) -> str:
        return f"{self.difference:+.1f}{interval_text((self.low, self.high), self.items, signed=True)}"


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
    other: tuple[Value | None, ...] = ()
    """Each model by the method that its headline is not from: written answers beside the likeliest option."""
    other_name: str = "other method"
    """What that method is called; where models differ in it, as here."""
    auc: tuple[float | None, ...] = ()
    """Each model's AUC of the log-odds of Yes, in percent; None where options were not scored."""
    d_prime: tuple[float | None, ...] = ()
    """The same as d'."""


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
    before = _average(base, base.method)
    chances = [row.chance for row in rows if row.chance is not None]
    average = SummaryRow(
        AVERAGE,
        "Average accuracy",
        "accuracy",
        len(base.items),
        sum(chances) / len(chances),
        tuple(_average(result, "text_only") for result in results),
        tuple(_average(result, result.method) for result in results),
        (
            None,
            *(
                Delta(
                    **comparison["average_accuracy"],
                    relative=_relative(comparison["average_accuracy"], before),
                    items=len(base.items),
                )
                for comparison in compared
            ),
        ),
        tuple(_average(result, OTHER_METHOD[result.method]) for result in results),
        other_name(results),
        (None,) * len(results),
        (None,) * len(results),
    )
    return [*rows, average]


def to_table(rows: Sequence[SummaryRow], names: Sequence[str], title: str = "EmoReAlM") -> Table:
    """The rows for a terminal."""
    cells = [_cells(row, _shown(rows)) for row in rows]
    return Table.of(_header(rows, names), cells, f"{title}, percent [95 % interval]", few_note(cells))


def to_markdown(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The rows as a Markdown table."""
    return markdown_table(_header(rows, names), [_cells(row, _shown(rows)) for row in rows])


def to_latex(rows: Sequence[SummaryRow], names: Sequence[str]) -> str:
    """The rows as a LaTeX table for the package booktabs."""
    return latex_table(_header(rows, names), [_cells(row, _shown(rows)) for row in rows])


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
        "relative",
        "p",
        "other_method",
        "auc",
        "d_prime",
    )
    records = []
    for row in rows:
        for number, (name, value, text_only, delta) in enumerate(
            zip(names, row.values, row.text_only, row.deltas, strict=True)
        ):
            cells = {"task": row.task, "metric": row.metric, "model": name, "n": row.n, "chance": row.chance}
            cells |= {"text_only": text_only.value if text_only else None} | (asdict(value) if value else {})
            other = row.other[number]
            cells |= {"other_method": other.value if other else None}
            cells |= {"auc": row.auc[number], "d_prime": row.d_prime[number]}
            if delta:
                cells |= {"difference": delta.difference, "relative": delta.relative, "p": delta.p}
                cells |= {"difference_low": delta.low, "difference_high": delta.high}
            records.append({field: cells.get(field) for field in fields})
    return csv_text(records)


def to_json(rows: Sequence[SummaryRow], names: Sequence[str], cues: Sequence[Mapping[str, Any]] = ()) -> str:
    """The rows as JSON, with the records by kind of cue (`avem.evaluate.emorealm.cues.cue_records`)."""
    content = {"models": list(names), "rows": [asdict(row) for row in rows], "cues": list(cues)}
    return json.dumps(content, indent=1)


def _task_row(task: str, results: Sequence[BenchResult], compared: Sequence[dict[str, Any]]) -> SummaryRow:
    numbers = results[0].score["tasks"][task]
    metric = "accuracy" if numbers["f1"] is None else "f1"
    before = _value(results[0], results[0].method, task, metric)
    return SummaryRow(
        task,
        task_name(task),
        metric,
        numbers["n"],
        numbers["chance"],
        tuple(_value(result, "text_only", task, metric) for result in results),
        tuple(_value(result, result.method, task, metric) for result in results),
        (None, *(_delta(comparison["tasks"][task], metric, before) for comparison in compared)),
        tuple(_value(result, OTHER_METHOD[result.method], task, metric) for result in results),
        other_name(results),
        tuple(_detection(result, task).get("auc") for result in results),
        tuple(_detection(result, task).get("d_prime") for result in results),
    )


def other_name(results: Sequence[BenchResult]) -> str:
    """What the second method of all results is called, or that it is another one where they differ in it."""
    names = {METHOD_NAMES[OTHER_METHOD[result.method]] for result in results}
    return names.pop() if len(names) == 1 else "other method"


def _value(result: BenchResult, method: str, task: str, metric: str) -> Value | None:
    score = result.scores.get(method)
    value = score["tasks"][task][metric] if score else None
    if score is None or value is None:
        return None
    low, high = score.get("intervals", {}).get("tasks", {}).get(task, {}).get(metric, (None, None))
    return Value(value, low, high, score["tasks"][task]["n"])


def _average(result: BenchResult, method: str) -> Value | None:
    score = result.scores.get(method)
    if score is None:
        return None
    low, high = score.get("intervals", {}).get("average_accuracy", (None, None))
    return Value(score["average_accuracy"], low, high, len(result.items))


def _delta(comparison: dict[str, Any], metric: str, before: Value | None) -> Delta | None:
    difference = comparison["metrics"].get(metric)
    if not difference:
        return None
    items = FEWEST if before is None else before.items
    return Delta(**difference, p=comparison["mcnemar"]["p"], relative=_relative(difference, before), items=items)


def _relative(difference: Mapping[str, float], before: Value | None) -> float | None:
    """A difference in percent of the first model's number."""
    return 100 * difference["difference"] / before.value if before is not None and before.value else None


def _detection(result: BenchResult, task: str) -> Mapping[str, float | None]:
    """AUC and d' of a task's yes/no questions; empty where options were not scored."""
    found: Mapping[str, float | None] = result.scores.get("likelihood", {}).get("detection", {}).get(task, {})
    return found


def _shown(rows: Sequence[SummaryRow]) -> dict[str, bool]:
    """Which of the columns that need scored options or two methods have something to show."""
    return {name: any(value is not None for row in rows for value in getattr(row, name)) for name in EXTRA_COLUMNS}


EXTRA_COLUMNS = ("other", "auc", "d_prime")


def _header(rows: Sequence[SummaryRow], names: Sequence[str]) -> list[str]:
    shown = _shown(rows)
    header = ["task", "metric", "n", "chance", "text only", *names]
    header += [rows[0].other_name] * shown["other"] + ["AUC"] * shown["auc"] + ["d'"] * shown["d_prime"]
    return [*header, *(f"{name} - {names[0]}" for name in names[1:])]


def _cells(row: SummaryRow, shown: Mapping[str, bool]) -> list[str]:
    chance = "" if row.chance is None else f"{row.chance:.1f}"
    values = ["" if value is None else str(value) for value in row.values]
    deltas = ["" if delta is None else str(delta) for delta in row.deltas[1:]]
    extra = [_joined([None if value is None else value.value for value in row.other])] * shown["other"]
    extra += [_joined(row.auc)] * shown["auc"] + [_joined(row.d_prime, 2)] * shown["d_prime"]
    text_only = _joined([None if value is None else value.value for value in row.text_only])
    return [row.name, METRIC_NAMES[row.metric], str(row.n), chance, text_only, *values, *extra, *deltas]


def _joined(values: Sequence[float | None], digits: int = 1) -> str:
    """One number a model, with slashes between them."""
    return " / ".join("" if value is None else f"{value:.{digits}f}" for value in values).strip(" /")
