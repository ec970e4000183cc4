"""Yes/no metrics as these benchmarks report them, with Yes as the positive class, and AUC, which has no threshold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from avem.evaluate.emorealm.detection import log_odds, percent_auc
from avem.evaluate.emorealm.metrics import Outcome, group_by_task
from avem.evaluate.emorealm.questions import polarities
from avem.evaluate.emorealm.results import METHODS, BenchResult
from avem.evaluate.hallucination.base import PAIR
from avem.evaluate.sheets import Sheet

COLUMNS = ("accuracy", "precision", "recall", "no_accuracy", "f1", "yes_share", "auc")
TITLES = ("accuracy", "precision", "recall (PA)", "on No (HR)", "F1", "yes %", "AUC")
"""PA and HR are CMM's perception accuracy and hallucination resistance."""


def yes_no_scores(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Numbers of a group of yes/no questions, in percent; an answer that is missing or unreadable is wrong.

    Returns:
        `n`, `accuracy`, `precision`, `recall` (accuracy on Yes), `no_accuracy`, `f1` of Yes, and `yes_share`; None
        where there is nothing to divide by. `pair_accuracy` where questions come in pairs.

    Example:
        A model that always says yes has recall 100, accuracy on No 0, and the share of Yes as precision.
    """
    gold = [polarities(o.question)[o.question.answer.upper()] for o in outcomes]
    said = [polarities(o.question).get(o.letter or "") for o in outcomes]
    hits = sum(g == s == "yes" for g, s in zip(gold, said, strict=True))
    right_no = sum(g == s == "no" for g, s in zip(gold, said, strict=True))
    found: dict[str, float | int | None] = {
        "n": len(outcomes),
        "accuracy": _share(hits + right_no, len(outcomes)),
        "precision": _share(hits, said.count("yes")),
        "recall": _share(hits, gold.count("yes")),
        "no_accuracy": _share(right_no, gold.count("no")),
        "f1": _share(2 * hits, said.count("yes") + gold.count("yes")),
        "yes_share": _share(said.count("yes"), len(outcomes)),
    }
    pairs: dict[Any, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        if PAIR in outcome.question.extra:
            pairs[outcome.question.extra[PAIR]].append(outcome.right)
    whole = [all(each) for each in pairs.values() if len(each) == 2]
    return found | ({"pair_accuracy": _share(sum(whole), len(whole))} if whole else {})


def result_scores(result: BenchResult, method: str) -> dict[str, dict[str, float | int | None]]:
    """`yes_no_scores` of every task and of all questions (`all`), with `auc` where options were scored."""
    outcomes = result.outcomes(method)
    groups = {**group_by_task(outcomes), "all": outcomes}
    values = {
        item.question.id: item.logprobs if method == "likelihood" else item.text_logprobs for item in result.items
    }
    scored = {} if method == "generation" else values
    return {task: {**yes_no_scores(group), "auc": _auc(group, scored)} for task, group in groups.items()}


def hallucination_sheet(title: str, results: Sequence[BenchResult]) -> Sheet:
    """One row for each model, method and task."""
    records, rows = [], []
    paired = any(PAIR in item.question.extra for result in results for item in result.items)
    names = (*COLUMNS, "pair_accuracy") if paired else COLUMNS
    for result in results:
        for method in (name for name in METHODS if name in result.scores):
            for task, numbers in result_scores(result, method).items():
                values = {name: numbers.get(name) for name in names}
                records.append({"model": result.name, "method": method, "task": task, "n": numbers["n"], **values})
                shown = ("" if value is None else f"{value:.1f}" for value in values.values())
                rows.append((result.name, method.replace("_", " "), task, str(numbers["n"]), *shown))
    header = ("model", "method", "task", "n", *TITLES, *(("pairs",) if paired else ()))
    note = "Percent. Yes is the positive class; AUC needs no threshold, 50 is chance."
    return Sheet(title, header, tuple(rows), tuple(records), note)


def _auc(outcomes: Sequence[Outcome], logprobs: Mapping[str, Sequence[float] | None]) -> float | None:
    return percent_auc(log_odds([outcome.question for outcome in outcomes], logprobs))


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
