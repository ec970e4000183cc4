"""Where the noise is, and how many seeds an effect needs: the variance of AVEm-DPO's measures, split by its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import nct, norm
from scipy.stats import t as student_t

from avem.evaluate.bootstrap import Floats
from avem.evaluate.sheets import Sheet
from avem.tools.project.proof.claims import AVEM
from avem.tools.project.proof.plan import BASE_MARK
from avem.tools.project.proof.results.counts import MEASURES
from avem.tools.project.proof.results.odds import DETECTION
from avem.tools.project.proof.verdicts import LEVEL, OPEN, SAME, Verdict
from avem.tools.sweep.grid import read_grid

HEADLINE = ("basic", "agree", "stress", "spurious", "hallucinated", "auc_spurious", "auc_hallucinated", "auc_agree")
GRIDS = {"order": "orders", "draws": "one-order"}
"""Source to the grid whose runs of AVEm-DPO differ in it alone from the run with seed 0."""
SOURCES = {
    "base": "base",
    "seed": "preference seed",
    "order": "of it: order of rows",
    "draws": "of it: every other draw",
    "clips": "test clips",
}
EFFECT = 8.0
"""Points: the smallest difference in Tables 5 and 17 that has to be detected."""

MOST_SEEDS = 30
"""More are not asked for."""
POWER = 0.8
"""Probability with which an effect is to be detected."""
MORE_SEEDS, MORE_CLIPS = f"more than {MOST_SEEDS}", "more clips"
"""What decides a claim where no number of seeds up to `MOST_SEEDS` does, and where none does."""

Levels = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Run to seed to measure."""


def split(levels: Levels, clips: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Standard deviations of AVEm-DPO's measures by source, in points.

    The bases' share is the variance of the bases' means, less what the seeds of each leave in its mean; where that is
    below zero, it is 0.

    Args:
        levels: What AVEm-DPO, from every base and in every order, came to with each seed.
        clips: Measure to the variance of one run's level over resampled clips.

    Returns:
        Measure to source (`SOURCES`) to the standard deviation; a source that was not varied is left out.
    """
    found: dict[str, dict[str, float]] = {}
    varied = {source: [run.name for run in read_grid(grid).runs] for source, grid in GRIDS.items()}
    bases = [own for run, own in levels.items() if run == AVEM or run.startswith(AVEM + BASE_MARK)]
    for measure in HEADLINE:
        own = found.setdefault(measure, {})
        groups = [np.array([one[measure] for one in base.values()]) for base in bases]
        several = [group for group in groups if len(group) > 1]
        if several:
            own["seed"] = _pooled(several)
        if len(several) > 1:
            within = np.mean([group.var(ddof=1) / len(group) for group in several])
            between = float(np.var([group.mean() for group in several], ddof=1) - within)
            own["base"] = max(between, 0.0)
        first = levels.get(AVEM, {}).get(0)
        for source, runs in varied.items():
            values = [one[measure] for run in runs for one in levels.get(run, {}).values()]
            if first is not None and len(values) > 1:
                own[source] = float(np.var([first[measure], *values], ddof=1))
        own["clips"] = clips[measure]
        found[measure] = {source: own[source] ** 0.5 for source in SOURCES if source in own}
    return found


def _pooled(groups: Sequence[Floats]) -> float:
    """Variance within groups, each weighted by its degrees of freedom."""
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return squares / sum(len(group) - 1 for group in groups)


def power(effect: float, seed_variance: float, clip_variance: float, seeds: int) -> float:
    """The probability that a claim's interval excludes zero.

    Args:
        effect: True difference of two runs, in points.
        seed_variance: Of the difference of one seed of both.
        clip_variance: Of the mean difference over resampled clips.
        seeds: Of each run, at least 2.

    Returns:
        Between 0 and 1, by the noncentral t distribution.

    Example:
        >>> round(power(8.0, 16.0, 1.0, 5), 2)
        0.83
    """
    variance = seed_variance / seeds + clip_variance
    if variance == 0:  # every seed and every draw of clips gives the same
        return float(effect != 0)
    shift = effect / np.sqrt(variance)
    edge = student_t.ppf((1 + LEVEL) / 2, seeds - 1)
    return float(nct.sf(edge, seeds - 1, shift) + nct.cdf(-edge, seeds - 1, shift))


def seeds_needed(seed_variance: float, clip_variance: float, effect: float = EFFECT) -> int | None:
    """The fewest seeds with which an effect is detected with a probability of `POWER`; None for over `MOST_SEEDS`."""
    tried = range(2, MOST_SEEDS + 1)
    return next((n for n in tried if power(effect, seed_variance, clip_variance, n) >= POWER), None)


def needed_to_decide(found: Verdict) -> str:
    """What would decide an open claim, if its difference is the true one and its seeds vary as they do.

    Args:
        found: A verdict.

    Returns:
        The number of seeds that decides it with a probability of `POWER`, `MORE_SEEDS` or, where the clips alone leave
        it open, `MORE_CLIPS`. Empty for a claim that is decided or has no interval.

    Example:
        >>> from avem.tools.project.proof.verdicts import Claim
        >>> claim = Claim("Table 5", "PMP helps", "stress", "AVEm-DPO", "w/o PMP")
        >>> needed_to_decide(Verdict(claim, 55.0, 50.0, 5.0, -3.5, 13.5, (1.0, 5.0, 9.0), "cannot tell"))
        '8'
    """
    seeds = len(found.by_seed)
    if found.outcome != OPEN or found.low is None or found.high is None or seeds < 2:
        return ""
    edges = {"more": (0.0,), "less": (0.0,), "no more": (SAME,), "same": (-SAME, SAME)}[found.claim.expects]
    distance = min(abs(found.difference - edge) for edge in edges)
    spread = float(np.var(found.by_seed, ddof=1))
    half = (found.high - found.low) / 2
    variance = (half / float(student_t.ppf((1 + LEVEL) / 2, seeds - 1))) ** 2
    clips = max(variance - spread / seeds, 0.0)
    if distance < (norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) * clips**0.5 or distance == 0:
        return MORE_CLIPS
    needed = seeds_needed(spread, clips, distance)
    return MORE_SEEDS if needed is None else str(needed)


def variance_sheet(found: Mapping[str, Mapping[str, float]]) -> Sheet:
    """The split as a table; the last column is how many seeds a difference of `EFFECT` points needs."""
    titles = {**MEASURES, **DETECTION}
    rows, records = [], []
    for measure, own in found.items():
        record: dict[str, Any] = {"measure": measure, **{f"{name}_sd": value for name, value in own.items()}}
        if "seed" in own:  # two runs' seeds are independent; of their common clips, the difference has less than both
            record["seeds_needed"] = seeds_needed(2 * own["seed"] ** 2, own["clips"] ** 2)
        records.append(record)
        cells = [f"{own[source]:.1f}" if source in own else "" for source in SOURCES]
        needed = record.get("seeds_needed", "")
        rows.append((titles[measure], *cells, MORE_SEEDS if needed is None else str(needed)))
    header = ("standard deviation, points", *SOURCES.values(), f"seeds for {EFFECT:g} points")
    return Sheet("Where the noise is", header, tuple(rows), tuple(records))
