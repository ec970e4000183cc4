"""Telling yes from no without a threshold: AUC and d' of the log-odds of Yes.

F1 of a yes/no task rises when a model comes to say no more often. These two do not: they depend on whether the log-odds
of Yes are higher where Yes is right, not on where the model draws the line between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from avem.evaluate.bootstrap import Floats, percentiles, resample_items
from avem.evaluate.emorealm.questions import in_order, letters, polarities
from avem.evaluate.emorealm.subtasks import HALLUCINATED, SPURIOUS
from avem.records import Question

CUE_KINDS = (SPURIOUS, HALLUCINATED)


@dataclass(frozen=True, slots=True)
class Odds:
    """One yes/no question with the log-odds of Yes."""

    clip: str
    task: str
    yes: bool
    """Whether Yes is right."""
    value: float
    """log p(Yes) minus log p(No), in nats."""
    subtask: str = ""
    """Kind of the cue that the question names (`avem.evaluate.emorealm.subtasks`); empty where it is not known."""


def log_odds(questions: Sequence[Question], logprobs: Mapping[str, Sequence[float] | None]) -> list[Odds]:
    """Log-odds of Yes of every yes/no question whose options were scored.

    Args:
        questions: Any questions.
        logprobs: Question id to the log-probability of each option, in nats, in the options' order.
    """
    found = []
    for question in questions:
        values, said = logprobs.get(question.id), polarities(question)
        if values is None or not said:
            continue
        own = {said[letter]: float(value) for letter, value in zip(letters(question), values, strict=True)}
        right = said[question.answer.upper()] == "yes"
        subtask = str(question.extra.get("subtask") or "")
        found.append(Odds(question.video, question.task, right, own["yes"] - own["no"], subtask))
    return found


def auc(yes: Floats, no: Floats) -> float:
    """Probability that a question answered by Yes has higher log-odds than one answered by No, ties counted half.

    Args:
        yes: float64 [Y], log-odds where Yes is right.
        no: float64 [N], log-odds where No is right.

    Returns:
        0 to 1; 0.5 for a model that can't tell the two, nan where one of them is empty.

    Example:
        >>> auc(np.array([2.0, 0.0]), np.array([1.0, -1.0]))
        0.75
    """
    if not len(yes) or not len(no):
        return float("nan")
    value, right = np.concatenate([yes, no]), np.arange(len(yes) + len(no)) < len(yes)
    return float(weighted_auc(value, right, np.ones((1, len(value))))[0])


def d_prime(yes: Floats, no: Floats) -> float:
    """Distance of the two means in units of the pooled standard deviation (d_a of signal detection theory).

    Args:
        yes: float64 [Y], log-odds where Yes is right.
        no: float64 [N], log-odds where No is right.

    Returns:
        0 for a model that can't tell the two; nan with fewer than two of either, or without any variance.

    Example:
        >>> round(d_prime(np.array([1.0, 3.0]), np.array([-1.0, 1.0])), 3)
        1.414
    """
    if len(yes) < 2 or len(no) < 2:
        return float("nan")
    pooled = (yes.var(ddof=1) + no.var(ddof=1)) / 2
    return float((yes.mean() - no.mean()) / np.sqrt(pooled)) if pooled > 0 else float("nan")


def detection(odds: Sequence[Odds], resamples: int = 0, seed: int = 0) -> dict[str, dict[str, Any]]:
    """AUC (in percent) and d' of each yes/no task, with 95 % intervals over clips.

    Args:
        odds: See `log_odds`.
        resamples: Bootstrap resamples over clips; 0 for no intervals.
        seed: Seed of the bootstrap.

    Returns:
        Task to `n, auc, d_prime` and, with `resamples`, `auc_interval` and `d_prime_interval` (`[low, high]`); None
        where a number is not defined.
    """
    by_task = {task: [each for each in odds if each.task == task] for task in in_order(each.task for each in odds)}
    return {task: _numbers(members, resamples, seed) for task, members in by_task.items()}


def cue_detection(odds: Sequence[Odds], resamples: int = 0, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """AUC (in percent) and d' of each kind of cue: its no-questions against all yes-questions of the same task.

    A model that says no to whatever it is asked has an AUC of 50 here, whatever its accuracy on the no-questions. One
    that says no to a kind of cue by its name alone, without looking at the clip, is above 50; compare the AUC of
    the same model without media.

    Args:
        odds: See `log_odds`; no-questions without a subtask are left out.
        resamples: Bootstrap resamples over clips; 0 for no intervals.
        seed: Seed of the bootstrap.

    Returns:
        Task to `spurious` and `hallucinated`, where it has such questions and yes-questions, to the fields of
        `detection`, `yes_n` and `no_n` (how many questions of either answer).
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in in_order(each.task for each in odds):
        for kind in CUE_KINDS:
            members = about_cue(odds, task, kind)
            if members:
                numbers = _numbers(members, resamples, seed)
                yes = sum(each.yes for each in members)
                found.setdefault(task, {})[kind] = {**numbers, "yes_n": yes, "no_n": len(members) - yes}
    return found


def about_cue(odds: Sequence[Odds], task: str, kind: str) -> list[Odds]:
    """All yes-questions of a task and its no-questions about this kind of cue; empty without both."""
    yes = [each for each in odds if each.task == task and each.yes]
    no = [each for each in odds if each.task == task and each.subtask == kind and not each.yes]
    return [*yes, *no] if yes and no else []


def percent_auc(odds: Sequence[Odds]) -> float | None:
    """AUC of some questions in percent; None where all of them have the same answer."""
    value = np.array([each.value for each in odds])
    right = np.array([each.yes for each in odds], dtype=bool)
    return _known(100 * auc(value[right], value[~right]))


def _numbers(members: Sequence[Odds], resamples: int, seed: int) -> dict[str, Any]:
    """The fields of `detection` for some questions."""
    value = np.array([each.value for each in members])
    right = np.array([each.yes for each in members])
    numbers: dict[str, Any] = {
        "n": len(members),
        "auc": percent_auc(members),
        "d_prime": _known(d_prime(value[right], value[~right])),
    }
    if resamples and numbers["auc"] is not None:
        numbers |= _intervals(members, resamples, seed)
    return numbers


def resampled_auc(odds: Sequence[Odds], resamples: int, seed: int) -> Floats:
    """AUC (0 to 1) of some questions on clips drawn with replacement, float64 [resamples]; nan without both answers.

    Two models' questions on the same clips get the same draws, so the difference of two results is paired.
    """
    if not odds:
        return np.full(resamples, np.nan)
    value, right, weights = _resampled(odds, resamples, seed)
    return weighted_auc(value, right, weights)


def _resampled(odds: Sequence[Odds], resamples: int, seed: int) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Log-odds and right answers of Q questions, and how often each is drawn, float64 [R, Q]."""
    weights = resample_items([each.clip for each in odds], resamples, seed)
    return np.array([each.value for each in odds]), np.array([each.yes for each in odds]), weights


def weighted_auc(value: Floats, right: NDArray[np.bool_], weights: Floats) -> Floats:
    """AUC of the same questions under several weights, ties counted half.

    Args:
        value: float64 [Q], log-odds of Yes.
        right: bool [Q], whether Yes is right.
        weights: float64 [R, Q], such as how often each question is drawn.

    Returns:
        float64 [R], 0 to 1; nan where all of the weight is on one answer.

    Example:
        >>> value, right = np.array([2.0, 0.0, 1.0]), np.array([True, True, False])
        >>> weighted_auc(value, right, np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0]])).tolist()
        [0.5, 0.75]
    """
    levels = np.unique(value, return_inverse=True)[1]
    order = np.argsort(levels, kind="stable")
    wins, pairs = _wins(order, levels[order], right[order], weights)
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / pairs)


@njit(cache=True)
def _wins(
    order: NDArray[np.int64], levels: NDArray[np.int64], right: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Weight of the pairs of a yes and a no question in which Yes has the higher log-odds, ties half, and of all pairs.

    Args:
        order: int64 [Q], questions by rising log-odds.
        levels: int64 [Q], rank of each of these; equal log-odds have the same.
        right: bool [Q], whether Yes is right for each of these.
        weights: float64 [R, Q], in the questions' own order.

    Returns:
        Two float64 [R].
    """
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for resample in range(len(weights)):
        row, below, all_yes, start = weights[resample], 0.0, 0.0, 0
        while start < len(order):
            yes, no, end = 0.0, 0.0, start
            while end < len(order) and levels[end] == levels[start]:
                if right[end]:
                    yes += row[order[end]]
                else:
                    no += row[order[end]]
                end += 1
            wins[resample] += yes * (below + no / 2)
            below += no
            all_yes += yes
            start = end
        pairs[resample] = all_yes * below
    return wins, pairs


def _intervals(odds: Sequence[Odds], resamples: int, seed: int) -> dict[str, list[float]]:
    value, right, weights = _resampled(odds, resamples, seed)
    drawn = weighted_auc(value, right, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        means, variances = zip(*(_moments(weights[:, side], value[side]) for side in (right, ~right)), strict=True)
        distance = (means[0] - means[1]) / np.sqrt((variances[0] + variances[1]) / 2)
    found = {"auc_interval": 100 * drawn, "d_prime_interval": np.where(np.isfinite(distance), distance, np.nan)}
    return {name: percentiles(values) for name, values in found.items() if not np.isnan(values).all()}


def _moments(weights: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and unbiased variance of each resample, float64 [R] each."""
    count = weights.sum(axis=1)
    mean = weights @ values / count
    return mean, (weights @ values**2 / count - mean**2) * count / (count - 1)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
