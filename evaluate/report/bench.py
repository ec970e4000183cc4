"""The report: one HTML file with everything in it, made to be sent around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem import __version__
from avem.errors import DataError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.cues import cue_records
from avem.evaluate.emorealm.metrics import group_by_task
from avem.evaluate.emorealm.notes import method_note
from avem.evaluate.emorealm.questions import letters, option_text, task_name
from avem.evaluate.emorealm.results import BenchResult, read_result
from avem.evaluate.emorealm.subtasks import subtask_note
from avem.evaluate.emorealm.summary import AVERAGE, METRIC_NAMES, SummaryRow, summarise
from avem.evaluate.intervals import FEWEST, drawn, range_text
from avem.evaluate.page import page_environment, signed
from avem.evaluate.paper import COLUMNS, MEASURED, TABLE_13
from avem.evaluate.report.cards import make_cards
from avem.evaluate.report.cases import make_cases
from avem.evaluate.report.curves import read_curves
from avem.evaluate.report.titles import RELEASED, benchmark_title
from avem.files import save_page

PICTURES = 60
"""Clips that get pictures by default; each adds about 15 kB to the page."""
FEW = "too few questions for an interval"


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the large numbers at the top."""

    label: str
    before: str
    """The first model's number; empty for a single model."""
    after: str
    note: str
    measure: str = ""
    """The same questions by AUC, which does not change when a model says no more often; empty where it is not known."""


def write_report(
    path: Path | str,
    results: Sequence[BenchResult | Path | str],
    runs: Sequence[Path | str] = (),
    media_root: Path | str | None = None,
    *,
    title: str = "",
    pictures: int = PICTURES,
    paper: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Path:
    """Write one self-contained page on one or several models.

    Args:
        path: The HTML file to write.
        results: Bench results, or where `result.json` lies; the first is what the others are compared with.
        runs: Run directories whose `metrics.jsonl` is drawn.
        media_root: The clips' folder, or the one around it; without it, the folders that the store names.
        title: Name of the benchmark or occasion; empty for what `benchmark_title` says.
        pictures: How many clips get frames and sound outlines.
        paper: Whether to show the paper's Table 13 next to the results.
        resamples: Bootstrap resamples for differences between models.
        seed: Seed of the bootstrap.

    Returns:
        The page's path.

    Raises:
        DataError: There is no result, one can't be read, or they cover different questions.
        MissingFileError: A result or a run's metrics are not there.
    """
    path = Path(path)
    read = [result if isinstance(result, BenchResult) else read_result(result) for result in results]
    if not read:
        raise DataError("A report needs at least one bench result; `avem bench emorealm` makes one.")
    rows = summarise(read, resamples=resamples, seed=seed)
    roots = [Path(root) for result in read for root in result.store.get("roots", {}).values()]
    cards = make_cards(read, roots, path, pictures, Path(media_root) if media_root else None)
    page = (
        page_environment()
        .get_template("report.html.jinja")
        .render(
            title=title or benchmark_title(read),
            names=[result.name for result in read],
            results=read,
            rows=rows,
            figures=key_figures(read, rows),
            details=_details(read),
            yes=_says_yes(read),
            subtasks=_subtasks(read),
            cues=_cues(read),
            methods=_methods(read),
            runs=[read_curves(Path(run)) for run in runs],
            cards=cards,
            cases=make_cases([result.name for result in read], cards),
            kept=sum(question.outcome == "both" for card in cards for question in card.questions),
            pictured=min(pictures, len(cards)),
            tasks=[(task, task_name(task)) for task in group_by_task(read[0].outcomes())],
            absent=[item for item in read[0].items if item.absent],
            paper=TABLE_13 if paper and read[0].benchmark == "emorealm" else (),
            measured=MEASURED,
            method_notes=[method_note(result) for result in read],
            subtask_note=subtask_note(read[0].questions),
            released=RELEASED,
            fewest=FEWEST,
            ours=_beside_paper(read, rows),
            paper_columns=[(task_name(task), "accuracy" if "basic" in task else "F1") for task in COLUMNS],
            resamples=resamples,
            version=__version__,
        )
    )
    save_page(path, page)
    return path


def _beside_paper(results: Sequence[BenchResult], rows: Sequence[SummaryRow]) -> list[dict[str, Any]]:
    """Each model's numbers in the order of the paper's columns, None where a task was not run."""
    by_task = {row.task: row for row in rows}
    order = [*COLUMNS, AVERAGE]
    return [
        {"name": result.name, "values": [by_task[t].values[index] if t in by_task else None for t in order]}
        for index, result in enumerate(results)
    ]


def key_figures(results: Sequence[BenchResult], rows: Sequence[SummaryRow]) -> list[KeyFigure]:
    """The numbers at the top: average accuracy, then F1 of the stress tests, or else of all yes/no tasks."""
    chosen = [row for row in rows if row.task == AVERAGE]
    chosen += [row for row in rows if row.metric == "f1" and "stress" in row.task] or [
        row for row in rows if row.metric == "f1"
    ]
    figures = []
    for row in chosen[:3]:
        first, last = row.values[0], row.values[-1]
        if first is None or last is None:
            continue
        label = row.name if row.task == AVERAGE else f"{row.name}, {METRIC_NAMES[row.metric]}"
        delta = row.deltas[-1] if len(results) > 1 else None
        note = figure_note((last.low, last.high), last.items)
        if delta is not None:
            between = range_text((delta.low, delta.high), delta.items, signed=True)
            between = between if drawn((delta.low, delta.high), delta.items) else FEW
            note = f"{signed(delta.difference)} points ({between})"
        before = f"{first.value:.1f}" if len(results) > 1 else ""
        figures.append(KeyFigure(label, before, f"{last.value:.1f}", note, _auc_note(row)))
    return figures


def figure_note(edges: Sequence[float | None] | None, items: int, digits: int = 1) -> str:
    """What stands below a large number: its interval, or that there are too few items for one; empty without any."""
    between = range_text(edges, items, digits)
    return (FEW if between else "") if drawn(edges, items) is None else f"95 % interval {between}"


def _auc_note(row: SummaryRow) -> str:
    """AUC of the first and of the last model; empty where options were not scored."""
    known = [value for value in (row.auc[:1] + row.auc[-1:] if len(row.auc) > 1 else row.auc) if value is not None]
    return f"AUC {' → '.join(f'{value:.1f}' for value in known)} (50: no better than chance)" if known else ""


def _says_yes(results: Sequence[BenchResult]) -> dict[str, Any]:
    """To how many of the yes/no questions the answer is yes, and each model says yes, in percent; empty without any."""
    asked = {task: numbers for task, numbers in results[0].score["tasks"].items() if numbers["f1"] is not None}
    questions = [item.question for item in results[0].items if item.question.task in asked]
    total = len(questions)
    if not total:
        return {}
    right = sum(option_text(q.choices[letters(q).index(q.answer.upper())]).strip().lower() == "yes" for q in questions)
    said = [sum(result.score["tasks"][t]["yes_share"] * asked[t]["n"] for t in asked) / total for result in results]
    return {"right": 100 * right / total, "said": said}


def _details(results: Sequence[BenchResult]) -> list[dict[str, Any]]:
    """Every metric of every task and model, as Table 13 has them."""
    return [
        {
            "name": task_name(task),
            "models": [
                {
                    "name": result.name,
                    "tone": tone,
                    **result.score["tasks"][task],
                    **_told_apart(result, task),
                }
                for tone, result in enumerate(results)
            ],
        }
        for task in group_by_task(results[0].outcomes())
    ]


def _told_apart(result: BenchResult, task: str) -> dict[str, Any]:
    """AUC and d' of a task with their intervals, beside the intervals of its other metrics."""
    found = result.scores.get("likelihood", {}).get("detection", {}).get(task, {})
    known = result.score.get("intervals", {}).get("tasks", {}).get(task, {})
    own = {name: found[f"{name}_interval"] for name in ("auc", "d_prime") if f"{name}_interval" in found}
    return {"auc": found.get("auc"), "d_prime": found.get("d_prime"), "intervals": {**known, **own}}


def _subtasks(results: Sequence[BenchResult]) -> list[dict[str, Any]]:
    """Accuracy by subtask, as Table 14 has it; empty where questions carry none."""
    return [
        {
            "task": task_name(task),
            "subtask": subtask.replace("_", " "),
            "n": numbers["n"],
            "values": [result.score["subtasks"][task][subtask]["accuracy"] for result in results],
        }
        for task, group in results[0].score["subtasks"].items()
        for subtask, numbers in group.items()
    ]


def _cues(results: Sequence[BenchResult]) -> list[dict[str, Any]]:
    """AUC, d' and accuracies by kind of cue, one entry a task and kind with all models."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in cue_records(results):
        groups.setdefault((record["task"], record["cue"]), []).append(record)
    tones = {result.name: tone for tone, result in enumerate(results)}
    return [
        {"task": task_name(task), "cue": cue, "models": [{**own, "tone": tones[own["model"]]} for own in members]}
        for (task, cue), members in groups.items()
    ]


def _methods(results: Sequence[BenchResult]) -> list[dict[str, Any]]:
    """Likelihood next to generation, for models with both."""
    rows = []
    for tone, result in enumerate(results):
        disagreement = result.disagreement()
        for task in disagreement:
            likelihood, generation = (result.scores[method]["tasks"][task] for method in ("likelihood", "generation"))
            rows.append(
                {
                    "task": task_name(task),
                    "model": result.name,
                    "tone": tone,
                    "likelihood": likelihood["accuracy"],
                    "generation": generation["accuracy"],
                    "unreadable": generation["unreadable"],
                    "share": disagreement[task]["share"],
                }
            )
    return rows
