"""EmoReAlM (section 3): questions in, one number per task out, for answers of any model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from avem.errors import DataError
from avem.evaluate.emorealm.metrics import Outcome, group_by_task, group_metrics
from avem.evaluate.emorealm.parse import parse_reply
from avem.evaluate.emorealm.questions import check_questions, read_questions, to_question, with_letters
from avem.evaluate.emorealm.reference import reference_metrics
from avem.evaluate.emorealm.statistics import intervals
from avem.records import Question

__all__ = ["read_questions", "score", "score_letters", "score_outcomes"]

REFERENCE_NAMES = {
    "accuracy": "overall_accuracy",
    "yes_accuracy": "precision",
    "no_accuracy": "recall",
    "f1": "f1_score",
    "yes_share": "model_yes_percentage",
}
"""Our metric to the reference scorer's name for it."""


def score(
    questions: Sequence[Question | Mapping[str, Any]],
    answers: Mapping[str, str | None],
    reference_scoring: bool = False,
    *,
    use_parse_answer: bool = False,
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Score answers, all numbers in percent.

    Args:
        questions: Records, or objects with the fields of the benchmark file.
        answers: Question id to raw text, as a model wrote it.
        reference_scoring: Give the reference scorer's numbers (see `avem.evaluate.emorealm.reference`) instead of ours.
        use_parse_answer: With `reference_scoring`, its other matcher; its own evaluation never uses it.
        resamples: Bootstrap resamples for 95 % intervals (`avem.evaluate.emorealm.statistics`); 0 for none.
        seed: Seed of the bootstrap.

    Returns:
        With `reference_scoring`, exactly its metrics: `<task>_overall_accuracy`, ..., `average_accuracy`. Otherwise the
        same names, scored strictly (an answer that is missing or names no option is wrong), and in addition `tasks` and
        `subtasks` with `n, accuracy, yes_accuracy, no_accuracy, f1, yes_share, chance, missing, unreadable`,
        the ids `missing`, `unreadable` and `unknown` (answers to no question), and `intervals` with `resamples`.

    Raises:
        DataError: A question can't be scored (see `read_questions`).
    """
    entries = enumerate(questions, start=1)
    records = [with_letters(to_question(entry, f"question {number}")) for number, entry in entries]
    if reference_scoring:
        if not records:
            raise DataError("There are no questions to score.")
        return dict(reference_metrics(records, answers, use_parse_answer))
    check_questions(records, "the questions")
    replies = {question.id: answers.get(question.id) for question in records}
    letters = {
        question.id: None if (reply := replies[question.id]) is None else parse_reply(reply, question)
        for question in records
    }
    missing = [name for name, reply in replies.items() if reply is None]
    unknown = [name for name in answers if name not in replies]
    return score_letters(records, letters, missing=missing, resamples=resamples, seed=seed) | {"unknown": unknown}


def score_letters(
    questions: Sequence[Question],
    letters: Mapping[str, str | None],
    *,
    missing: Sequence[str] = (),
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Score chosen options; see `score`.

    Args:
        questions: Checked questions.
        letters: Question id to the chosen letter; None or absent counts as wrong.
        missing: Ids without an answer; other ids without a letter are listed as unreadable.
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Seed of the bootstrap.
    """
    outcomes = [Outcome(question, letters.get(question.id)) for question in questions]
    absent = set(missing)
    unreadable = [outcome.question.id for outcome in outcomes if outcome.letter is None]
    unreadable = [name for name in unreadable if name not in absent]
    result = score_outcomes(outcomes, resamples=resamples, seed=seed)
    for kind, names in (("missing", absent), ("unreadable", set(unreadable))):
        for task, group in group_by_task(outcomes).items():
            result["tasks"][task][kind] = sum(outcome.question.id in names for outcome in group)
    return result | {"missing": [q.id for q in questions if q.id in absent], "unreadable": unreadable, "unknown": []}


def score_outcomes(outcomes: Sequence[Outcome], *, resamples: int = 0, seed: int = 0) -> dict[str, Any]:
    """Metrics per task, per subtask where questions carry one, and the unweighted mean accuracy over tasks (E.1)."""
    tasks = {task: group_metrics(group) for task, group in group_by_task(outcomes).items()}
    flat = {
        f"{task}_{REFERENCE_NAMES[name]}": value
        for task, numbers in tasks.items()
        for name, value in numbers.items()
        if name in REFERENCE_NAMES and value is not None
    }
    accuracies = [float(numbers["accuracy"] or 0) for numbers in tasks.values()]
    result: dict[str, Any] = {
        **flat,
        "average_accuracy": sum(accuracies) / len(accuracies),
        "n": len(outcomes),
        "tasks": tasks,
        "subtasks": subtask_scores(outcomes),
    }
    return result | ({"intervals": intervals(outcomes, resamples, seed)} if resamples else {})


def subtask_scores(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Task to subtask to metrics (Table 14), of the questions that carry a subtask."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if subtask := outcome.question.extra.get("subtask"):
            groups[outcome.question.task, str(subtask)].append(outcome)
    nested: dict[str, dict[str, dict[str, float | int | None]]] = defaultdict(dict)
    for (task, subtask), group in groups.items():
        nested[task][subtask] = group_metrics(group)
    return dict(nested)
