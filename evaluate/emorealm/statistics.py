"""Uncertainty: bootstrap over clips, because questions on one clip are correlated, and paired comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from avem.errors import DataError
from avem.evaluate.bootstrap import LEVEL, RESAMPLES, Floats, percentiles, resample_counts
from avem.evaluate.emorealm.metrics import METRICS, Outcome, count_outcomes, rates
from avem.evaluate.emorealm.questions import in_order


def cluster_counts(outcomes: Sequence[Outcome], tasks: Sequence[str]) -> Floats:
    """Counts of every clip: float64 [clips, tasks, COUNTS], clips in order of their names."""
    counts = count_outcomes(outcomes)
    clips, cluster = np.unique([outcome.question.video for outcome in outcomes], return_inverse=True)
    task = np.array([tasks.index(outcome.question.task) for outcome in outcomes])
    sums = np.zeros((len(clips), len(tasks), counts.shape[1]))
    np.add.at(sums, (cluster, task), counts)
    return sums


def intervals(outcomes: Sequence[Outcome], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Percentile intervals of every task's metrics and of the average accuracy, in percent.

    Args:
        outcomes: All questions with what was chosen.
        resamples: Bootstrap resamples over clips.
        seed: The same seed gives the same numbers.

    Returns:
        `tasks` (task to metric to `[low, high]`), `average_accuracy` (`[low, high]`), `level`, `resamples`.
    """
    tasks = in_order(outcome.question.task for outcome in outcomes)
    drawn = resample_counts(cluster_counts(outcomes, tasks), resamples, seed)
    values = rates(drawn)
    return {
        "tasks": {
            task: _intervals({name: values[name][:, index] for name in METRICS}) for index, task in enumerate(tasks)
        },
        "average_accuracy": percentiles(values["accuracy"].mean(axis=1)),
        "level": LEVEL,
        "resamples": resamples,
    }


def compare(
    base: Sequence[Outcome], other: Sequence[Outcome], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Paired comparison of two models on the same questions, `other` minus `base`, in percentage points.

    Args:
        base: Outcomes of the first model.
        other: Outcomes of the second, on the same questions in any order.
        resamples: Bootstrap resamples over clips; both models are scored on the same draws.
        seed: The same seed gives the same numbers.

    Returns:
        `tasks`: task to `metrics` (metric to `difference, low, high`) and `mcnemar` (exact, two-sided: `gained, lost,
        p`); `average_accuracy` (`difference, low, high`); `mcnemar` over all questions.

    Raises:
        DataError: The two answered different questions.
    """
    paired = _pair(base, other)
    tasks = in_order(outcome.question.task for outcome in base)
    counts = np.stack([cluster_counts(base, tasks), cluster_counts([second for _, second in paired], tasks)], axis=1)
    point = {name: value[1] - value[0] for name, value in rates(counts.sum(axis=0)).items()}
    drawn = {name: value[:, 1] - value[:, 0] for name, value in rates(resample_counts(counts, resamples, seed)).items()}
    result: dict[str, Any] = {"tasks": {}, "resamples": resamples, "level": LEVEL}
    for index, task in enumerate(tasks):
        metrics = {name: _difference(point[name][index], drawn[name][:, index]) for name in METRICS}
        pairs = [pair for pair in paired if pair[0].question.task == task]
        result["tasks"][task] = {
            "metrics": {name: value for name, value in metrics.items() if value},
            "mcnemar": mcnemar(pairs),
        }
    result["average_accuracy"] = _difference(point["accuracy"].mean(), drawn["accuracy"].mean(axis=1))
    return result | {"mcnemar": mcnemar(paired)}


def mcnemar(pairs: Sequence[tuple[Outcome, Outcome]]) -> dict[str, float | int]:
    """McNemar's exact test: are questions gained and lost equally likely?

    Returns:
        `gained` (only the second is right), `lost` (only the first), `p` (two-sided binomial; 1 where neither occurs).
    """
    gained = sum(second.right and not first.right for first, second in pairs)
    lost = sum(first.right and not second.right for first, second in pairs)
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return {"gained": gained, "lost": lost, "p": p}


def same_questions(base: Sequence[Outcome], other: Sequence[Outcome]) -> None:
    """Refuse two results on different questions.

    Raises:
        DataError: They are.
    """
    _pair(base, other)


def _pair(base: Sequence[Outcome], other: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    by_id = {outcome.question.id: outcome for outcome in other}
    missing = [outcome.question.id for outcome in base if outcome.question.id not in by_id]
    if missing or len(by_id) != len(base):
        named = f", {missing[0]} for one" if missing else ""
        raise DataError(
            f"The two results cover different questions ({len(base)} and {len(by_id)}{named}); run both again."
        )
    return [(outcome, by_id[outcome.question.id]) for outcome in base]


def _intervals(values: dict[str, Floats]) -> dict[str, list[float]]:
    return {name: percentiles(drawn) for name, drawn in values.items() if not np.isnan(drawn).all()}


def _difference(point: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    """Empty where the metric does not apply."""
    if np.isnan(point):
        return {}
    low, high = percentiles(drawn)
    return {"difference": float(point), "low": low, "high": high}
