"""What is counted for every clip, and the measures of the paper's tables from sums of it (D.1, D.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from avem.evaluate.metrics import Outcome
from avem.evaluate.questions import polarities
from avem.records import Question

Floats = NDArray[np.float64]

CELLS = (
    "basic_audio", "basic_video", "agree_yes", "agree_no", "stress_audio_yes", "stress_audio_spurious",
    "stress_audio_hallucinated", "stress_video_yes", "stress_video_spurious", "stress_video_hallucinated",
)  # fmt: skip
"""Kinds of questions whose right answers are counted: task, and where it matters the answer or the subtask."""

MEASURES = {
    "basic": "Basic",
    "basic_audio": "Basic, audio",
    "basic_video": "Basic, visual",
    "agree": "Agreement F1",
    "stress": "Stress F1",
    "stress_audio": "Stress F1, audio",
    "stress_video": "Stress F1, visual",
    "spurious": "Spurious",
    "hallucinated": "Hallucinated",
}
"""Every measure, in percent, and its heading."""


def cell_of(question: Question) -> int:
    """The place in `CELLS` of a benchmark question of the controlled corpus."""
    side = question.task.rsplit("_", 1)[-1]
    if question.task.startswith("reasoning_basic"):
        return CELLS.index(f"basic_{side}")
    if question.task == "modality_agreement":
        return CELLS.index(f"agree_{polarities(question)[question.answer.upper()]}")
    subtask = str(question.extra["subtask"])
    return CELLS.index(f"stress_{side}_{'yes' if subtask == 'no_hallucination' else subtask}")


def right_by_clip(outcomes: Sequence[Outcome]) -> Floats:
    """Questions and right answers of every clip.

    Returns:
        float64 [clips, 2, len(CELLS)]: asked, then right; clips in order of their names.
    """
    clips, cluster = np.unique([outcome.question.video for outcome in outcomes], return_inverse=True)
    counts = np.zeros((len(clips), 2, len(CELLS)))
    for clip, outcome in zip(cluster, outcomes, strict=True):
        counts[clip, :, cell_of(outcome.question)] += (1, outcome.right)
    return counts


def measures(sums: Floats) -> dict[str, Floats]:
    """The measures of any sums over clips.

    Args:
        sums: float64 [..., 2, len(CELLS)], as of `right_by_clip`.

    Returns:
        `MEASURES` to float64 [...], in percent: accuracies; F1 the harmonic mean of the accuracies on yes and on no;
        those without a side the mean of the two sides.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 100 * sums[..., 1, :] / sums[..., 0, :]
    asked, right = (dict(zip(CELLS, np.moveaxis(sums[..., row, :], -1, 0), strict=True)) for row in (0, 1))
    by = dict(zip(CELLS, np.moveaxis(rate, -1, 0), strict=True))
    found: dict[str, Floats] = {"agree": _f1(by["agree_yes"], by["agree_no"])}
    for side in ("audio", "video"):
        kinds = [f"stress_{side}_{kind}" for kind in ("spurious", "hallucinated")]
        no = 100 * sum(right[kind] for kind in kinds) / sum(asked[kind] for kind in kinds)
        found[f"stress_{side}"] = _f1(by[f"stress_{side}_yes"], np.asarray(no))
        found[f"basic_{side}"] = by[f"basic_{side}"]
    found["basic"] = (found["basic_audio"] + found["basic_video"]) / 2
    found["stress"] = (found["stress_audio"] + found["stress_video"]) / 2
    for kind in ("spurious", "hallucinated"):
        found[kind] = (by[f"stress_audio_{kind}"] + by[f"stress_video_{kind}"]) / 2
    return {name: found[name] for name in MEASURES}


def _f1(yes: Floats, no: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(yes + no == 0, 0.0, 2 * yes * no / (yes + no))


def resampled(
    runs: Mapping[str, Floats],
    resamples: int,
    seed: int,
    measured: Callable[[Floats], dict[str, Floats]] = measures,
) -> tuple[dict[str, dict[str, Floats]], dict[str, dict[str, Floats]]]:
    """Measures of runs of several seeds, and their bootstrap over clips.

    All runs are judged on the same draws, so differences of what is returned are paired.

    Args:
        runs: Name to float64 [seeds, clips, 2, K]; the same clips in every run.
        resamples: How often clips are drawn with replacement.
        seed: The same seed gives the same draws.
        measured: Makes measures of sums over clips, float64 [..., 2, K].

    Returns:
        Run to measure to float64 [seeds], the measures as they are; and to float64 [resamples, seeds], those of the
        clips drawn.
    """
    clips = next(iter(runs.values())).shape[1]
    weights = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=resamples)
    point, drawn = {}, {}
    for name, counts in runs.items():
        point[name] = measured(counts.sum(axis=1))
        flat = counts.reshape(*counts.shape[:2], -1)
        sums = np.stack([weights.astype(np.float64) @ one for one in flat], axis=1)
        drawn[name] = measured(sums.reshape(resamples, *counts.shape[:1], *counts.shape[2:]))
    return point, drawn
