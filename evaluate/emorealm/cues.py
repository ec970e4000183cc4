"""Does a model look for the cue that a question names? AUC, d' and both accuracies for each kind of cue, as a table.

F1 and accuracy on the no-questions rise when a model says no more often, whatever is in the clip. AUC does not, so the
two belong side by side. The model without media shows how much of an AUC is in the question's text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avem.evaluate.emorealm.detection import cue_detection
from avem.evaluate.emorealm.questions import task_name
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.intervals import few_note, interval_text
from avem.evaluate.sheets import Sheet

HEADER = ("task, cue", "model", "AUC", "text only", "d'", "yes", "no")
TITLE = "By kind of cue: AUC [95 % interval] (chance 50), d', accuracy on yes and on no"
FIELDS = ("auc", "d_prime", "auc_low", "auc_high", "text_only_auc", "yes_accuracy", "no_accuracy", "yes_n", "no_n")


def cue_records(results: Sequence[BenchResult]) -> list[dict[str, Any]]:
    """One flat object for each task, kind of cue and model; empty where no question carries a subtask.

    Returns:
        `task, cue, model`, `auc`, `auc_low` and `auc_high` in percent, `d_prime`, `text_only_auc` of the same model
        without media, `yes_accuracy` on the questions about a cue that is there and fits, `no_accuracy` on those about
        this kind of cue (both in percent, by the option with the highest log-probability), `yes_n` and `no_n`. None
        where a number is not known.
    """
    found = []
    for result in results:
        text_only = cues_of(result, "text_only")
        for task, kinds in cues_of(result, "likelihood").items():
            scored = result.scores["likelihood"]
            for kind, numbers in kinds.items():
                low, high = numbers.get("auc_interval", (None, None))
                own = {
                    **numbers,
                    "auc_low": low,
                    "auc_high": high,
                    "text_only_auc": text_only.get(task, {}).get(kind, {}).get("auc"),
                    "yes_accuracy": scored["tasks"][task]["yes_accuracy"],
                    "no_accuracy": scored["subtasks"][task][kind]["accuracy"],
                }
                found.append({"task": task, "cue": kind, "model": result.name, **{name: own[name] for name in FIELDS}})
    order = list(dict.fromkeys((record["task"], record["cue"]) for record in found))
    return sorted(found, key=lambda record: order.index((record["task"], record["cue"])))


def cues_of(result: BenchResult, method: str) -> Mapping[str, Any]:
    """What `cue_detection` finds, without intervals in a result of an earlier version; empty without scored options."""
    if method not in result.scores:
        return {}
    kept: Mapping[str, Any] | None = result.scores[method].get("cues")
    return cue_detection(result.log_odds(method)) if kept is None else kept


def cue_sheet(results: Sequence[BenchResult]) -> Sheet | None:
    """The records as a table; None where there are none."""
    records = cue_records(results)
    if not records:
        return None
    rows = [
        (
            f"{task_name(record['task'])}, {record['cue']}" if record["model"] == results[0].name else "",
            record["model"],
            _number(record["auc"]) + _interval(record),
            _number(record["text_only_auc"]),
            _number(record["d_prime"], 2),
            _number(record["yes_accuracy"]),
            _number(record["no_accuracy"]),
        )
        for record in records
    ]
    return Sheet(TITLE, HEADER, tuple(rows), tuple(records), few_note(rows))


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(record: Mapping[str, Any]) -> str:
    return interval_text((record["auc_low"], record["auc_high"]), record["yes_n"] + record["no_n"])
