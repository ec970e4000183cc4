"""EmoReAlM's metrics (D.1) from counts, so that a point estimate and each resample go through the same formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avem.evaluate.bootstrap import Floats
from avem.evaluate.emorealm.questions import in_order, polarities
from avem.records import Question

COUNTS = ("n", "right", "yes_n", "yes_right", "no_n", "no_right", "said_yes")
"""What is counted for every task: questions, right ones, the same for questions answered by Yes and by No, yes
replies."""

METRICS = ("accuracy", "yes_accuracy", "no_accuracy", "f1", "yes_share")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question and the option a model chose."""

    question: Question
    letter: str | None
    """None: there is no answer, or it can't be read; both count as wrong."""

    @property
    def right(self) -> bool:
        """Whether the chosen option is the answer."""
        return self.letter is not None and self.letter == self.question.answer.upper()


def count_outcomes(outcomes: Sequence[Outcome]) -> Floats:
    """Count each outcome by itself.

    Returns:
        float64 [outcomes, len(COUNTS)]; sums over any group of rows are that group's counts. The last five are 0 for a
        question that is not yes/no.
    """
    rows = np.zeros((len(outcomes), len(COUNTS)))
    for row, outcome in zip(rows, outcomes, strict=True):
        said = polarities(outcome.question)
        gold = said.get(outcome.question.answer.upper())
        row[:2] = 1, outcome.right
        if gold:
            row[2:4] = gold == "yes", gold == "yes" and outcome.right
            row[4:6] = gold == "no", gold == "no" and outcome.right
            row[6] = said.get(outcome.letter or "") == "yes"
    return rows


def rates(counts: Floats) -> dict[str, Floats]:
    """The metrics of D.1, in percent.

    Args:
        counts: float64 [..., len(COUNTS)].

    Returns:
        `METRICS` to float64 [...]: accuracy; accuracy on Yes and on No (which the paper calls precision and recall);
        their harmonic mean F1 (0 where both are 0); the share of questions that were answered yes. nan where there is
        nothing to divide by.
    """
    n, right, yes_n, yes_right, no_n, no_right, said_yes = np.moveaxis(counts, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        yes, no = 100 * yes_right / yes_n, 100 * no_right / no_n
        share = 100 * said_yes / (yes_n + no_n)
        return {
            "accuracy": 100 * right / n,
            "yes_accuracy": yes,
            "no_accuracy": no,
            "f1": harmonic_mean(yes, no),
            "yes_share": share,
        }


def harmonic_mean(yes: Floats, no: Floats) -> Floats:
    """F1 as D.1 defines it: the harmonic mean of the accuracies on Yes and on No, float64 [...]; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(yes + no == 0, 0.0, 2 * yes * no / (yes + no))


def chance(questions: Sequence[Question]) -> float:
    """Expected accuracy of blind guessing, in percent: the mean of one over the number of options."""
    return float(np.mean([100 / len(question.choices) for question in questions]))


def group_by_task(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes of each task, tasks in the paper's order."""
    groups: dict[str, list[Outcome]] = {task: [] for task in in_order(outcome.question.task for outcome in outcomes)}
    for outcome in outcomes:
        groups[outcome.question.task].append(outcome)
    return groups


def group_metrics(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Metrics of a group of questions, such as a task: `n`, `chance` and `METRICS`, None where one does not apply."""
    values = rates(count_outcomes(outcomes).sum(axis=0))
    numbers = {name: None if np.isnan(value) else float(value) for name, value in values.items()}
    return {"n": len(outcomes), "chance": chance([outcome.question for outcome in outcomes]), **numbers}
