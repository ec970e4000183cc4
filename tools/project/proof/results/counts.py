"""What is counted for every clip, and the measures of the paper's tables from sums of it (D.1, D.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from avem.evaluate.bootstrap import Floats, resample_weights
from avem.evaluate.emorealm.metrics import harmonic_mean
from avem.evaluate.emorealm.questions import polarities
from avem.progress import stage
from avem.records import Question
from avem.tools.sweep.measures import SIDES

CELLS = (
    "basic_audio",
    "basic_video",
    "agree_yes",
    "agree_no",
    "stress_audio_yes",
    "stress_audio_spurious",
    "stress_audio_hallucinated",
    "stress_video_yes",
    "stress_video_spurious",
    "stress_video_hallucinated",
)
"""Kinds of questions whose right answers are counted: task, and where it matters the answer or the subtask."""

WRONG = ("spurious", "hallucinated")
"""Kinds of stress questions whose right answer is no."""

MEASURES = {
    "basic": "Basic",
    "basic_audio": "Basic, audio",
    "basic_video": "Basic, visual",
    "agree": "Agreement F1",
    "stress": "Stress F1",
    "stress_audio": "Stress F1, audio",
    "stress_video": "Stress F1, visual",
    "spurious": "Spurious",
    "spurious_audio": "Spurious, audio",
    "spurious_video": "Spurious, visual",
    "hallucinated": "Hallucinated",
    "agree_yes": "Agreement, yes",
    "agree_no": "Agreement, no",
    "stress_yes": "Stress, yes",
    "stress_no": "Stress, no",
}
"""Every measure, in percent, and its heading."""


def cell_of(question: Question) -> int:
    """The position in `CELLS` of a benchmark question of the controlled corpus."""
    side = question.task.rsplit("_", 1)[-1]
    if question.task.startswith("reasoning_basic"):
        return CELLS.index(f"basic_{side}")
    if question.task == "modality_agreement":
        return CELLS.index(f"agree_{polarities(question)[question.answer.upper()]}")
    subtask = str(question.extra["subtask"])
    return CELLS.index(f"stress_{side}_{'yes' if subtask == 'no_hallucination' else subtask}")


def measures(sums: Floats) -> dict[str, Floats]:
    """The measures of any sums over clips.

    Args:
        sums: float64 [..., 2, len(CELLS)], questions and right answers, as of `Record.counts`.

    Returns:
        `MEASURES` to float64 [...], in percent: accuracies; F1 the harmonic mean of the accuracies on yes and on no;
        those without a side the mean of the two sides.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 100 * sums[..., 1, :] / sums[..., 0, :]
        pooled = {side: _no_rate(sums, side) for side in SIDES}
    by = dict(zip(CELLS, np.moveaxis(rate, -1, 0), strict=True))
    found: dict[str, Floats] = {"agree": harmonic_mean(by["agree_yes"], by["agree_no"])}
    for side in SIDES:
        found[f"stress_{side}"] = harmonic_mean(by[f"stress_{side}_yes"], pooled[side])
        found[f"basic_{side}"] = by[f"basic_{side}"]
        for kind in WRONG:
            found[f"{kind}_{side}"] = by[f"stress_{side}_{kind}"]
    found["basic"] = (found["basic_audio"] + found["basic_video"]) / 2
    found["stress"] = (found["stress_audio"] + found["stress_video"]) / 2
    found |= {"agree_yes": by["agree_yes"], "agree_no": by["agree_no"]}
    found["stress_yes"] = (by["stress_audio_yes"] + by["stress_video_yes"]) / 2
    found["stress_no"] = (pooled["audio"] + pooled["video"]) / 2
    for kind in WRONG:
        found[kind] = (found[f"{kind}_audio"] + found[f"{kind}_video"]) / 2
    return {name: found[name] for name in MEASURES}


def _no_rate(sums: Floats, side: str) -> Floats:
    """Percent of a side's stress questions on any wrong cue that are answered No, float64 [...]."""
    cells = [CELLS.index(f"stress_{side}_{kind}") for kind in WRONG]
    asked, right = np.moveaxis(sums[..., cells].sum(axis=-1), -1, 0)
    return np.asarray(100 * right / asked)


def resampled(
    runs: Mapping[str, Floats],
    resamples: int,
    seed: int,
    measured: Callable[[Floats], dict[str, Floats]] = measures,
) -> tuple[dict[str, dict[str, Floats]], dict[str, dict[str, Floats]]]:
    """Measures of runs of several seeds, and their bootstrap over clips.

    All runs are measured on the same draws, so differences of what is returned are paired.

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
    weights = resample_weights(clips, resamples, seed)
    point, drawn = {}, {}
    with stage("Draw clips again", len(runs), "runs") as shown:
        for name, counts in runs.items():
            point[name] = measured(counts.sum(axis=1))
            flat = counts.reshape(*counts.shape[:2], -1)
            sums = np.stack([weights @ one for one in flat], axis=1)
            drawn[name] = measured(sums.reshape(resamples, *counts.shape[:1], *counts.shape[2:]))
            shown.advance()
    return point, drawn
