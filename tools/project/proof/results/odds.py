"""Telling yes from no without a threshold: AUC and d' of a run's log-odds of Yes, beside the paper's F1.

F1 rises when a model says no more often, whatever is in the clip. AUC does not: it is the probability that the log-odds
of Yes are higher for a question answered by yes than for one answered by no. Every claim in F1 or in accuracy on no
questions has a twin in AUC (`TWINS`).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from avem.evaluate.bootstrap import Floats, resample_items
from avem.evaluate.emorealm.detection import auc, d_prime, weighted_auc
from avem.progress import stage
from avem.tools.project.proof.results.counts import CELLS, WRONG
from avem.tools.sweep.measures import SIDES

AUC_RESAMPLES = 1000
"""Draws of clips for an AUC; fewer than for counts, as each is a pass over all questions."""

DETECTION = {
    "auc_agree": "Agreement, AUC",
    "auc_stress": "Stress, AUC",
    "auc_spurious": "Spurious, AUC",
    "auc_hallucinated": "Hallucinated, AUC",
}
"""Threshold-free measures in percent, 50 for a model that does not tell yes from no; the mean of sound and picture."""
DISTANCES = {name.replace("auc", "d"): title.replace("AUC", "d'") for name, title in DETECTION.items()}
"""The same as distances in standard deviations, 0 for a model that does not tell yes from no."""
TWINS = {name.removeprefix("auc_"): name for name in DETECTION}
"""The paper's measure to its threshold-free twin. Basic questions have no threshold."""

ASKED = tuple(not cell.startswith("basic") for cell in CELLS)
"""Whether a cell's questions are answered by yes or no."""
Values = NDArray[np.float16]


def pack(values: Values) -> str:
    """Log-odds as text: little-endian float16, deflated, in base 64."""
    return base64.b64encode(zlib.compress(values.astype("<f2").tobytes(), 9)).decode("ascii")


def unpack(text: str, count: int) -> Values:
    """What `pack` packed.

    Raises:
        ValueError: It is something else, or not so many numbers.
    """
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"log-odds can't be unpacked: {error}") from error
    if len(raw) != 2 * count:
        raise ValueError(f"a run has log-odds of {len(raw) // 2} questions, of {count}")
    return np.frombuffer(raw, dtype="<f2").astype(np.float16)


def yes_or_no(questions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the questions answered by yes or no.

    Args:
        questions: int64 [Q, 2]: clip, and index into `CELLS`.
    """
    return np.flatnonzero(np.array(ASKED)[questions[:, 1]])


def detected(
    questions: NDArray[np.int64],
    values: Mapping[str, Mapping[int, Values]],
    seeds: Mapping[str, int],
    resamples: int = AUC_RESAMPLES,
) -> tuple[dict[str, dict[str, Floats]], dict[str, dict[str, Floats]]]:
    """Threshold-free measures of runs, and their bootstrap over clips, the same draws for every run.

    Args:
        questions: int64 [Q, 2], those answered by yes or no: clip, and index into `CELLS`.
        values: Run to seed to float16 [Q], log-odds of Yes in nats.
        seeds: Run to how many of its seeds count, in order.
        resamples: How often clips are drawn with replacement.

    Returns:
        Run to measure (`DETECTION`, `DISTANCES`) to float64 [seeds]; and to float64 [resamples, seeds], of `DETECTION`
        alone.
    """
    clips, cells = questions.T
    asked = {run: [own[seed] for seed in sorted(own)[: seeds[run]]] for run, own in values.items()}
    point: dict[str, dict[str, Floats]] = {run: {} for run in asked}
    drawn: dict[str, dict[str, Floats]] = {run: {} for run in asked}
    comparisons = sum(map(len, _pairs().values())) * len(asked)
    with stage("Measure AUC", comparisons, "AUCs") as shown:
        for kind, pairs in _pairs().items():
            sides: dict[str, list[tuple[Floats, Floats, Floats]]] = {run: [] for run in asked}
            for yes, no in pairs:
                chosen = np.flatnonzero(np.isin(cells, [CELLS.index(cell) for cell in (yes, *no)]))
                right = cells[chosen] == CELLS.index(yes)
                weights = resample_items(clips[chosen], resamples, 0)
                for run, own in asked.items():
                    sides[run].append(_told([one[chosen].astype(np.float64) for one in own], right, weights))
                    shown.advance()
            for run, found in sides.items():
                areas, distances, redrawn = (np.mean(part, axis=0) for part in zip(*found, strict=True))
                point[run] |= {f"auc_{kind}": 100 * areas, f"d_{kind}": distances}
                drawn[run][f"auc_{kind}"] = 100 * redrawn
    return point, drawn


def _told(odds: Sequence[Floats], right: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats, Floats]:
    """AUC [seeds], d' [seeds] and resampled AUC [resamples, seeds] of log-odds [Q] per seed, answered by yes or not."""
    return (
        np.array([auc(one[right], one[~right]) for one in odds]),
        np.array([d_prime(one[right], one[~right]) for one in odds]),
        np.stack([weighted_auc(one, right, weights) for one in odds], axis=1),
    )


def _pairs() -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """For each kind, the cells that are compared: answered by yes, and by no; one pair a side."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {"agree": [("agree_yes", ("agree_no",))]}
    for kind, wrong in {"stress": WRONG, **{one: (one,) for one in WRONG}}.items():
        found[kind] = [(f"stress_{side}_yes", tuple(f"stress_{side}_{one}" for one in wrong)) for side in SIDES]
    return found
