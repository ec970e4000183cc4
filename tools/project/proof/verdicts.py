"""How a claim is decided: the interval of a difference between two runs, and which side of zero it lies on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from avem.evaluate.bootstrap import Floats

LEVEL = 0.95
SAME = 3.0
"""Percentage points within which two runs count as the same, or one as no more than the other."""

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"

Expects = Literal["more", "less", "same", "no more"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim: a run against another in one measure."""

    source: str
    """Table or figure of the paper."""
    says: str
    """The claim in our own words."""
    measure: str
    run: str
    against: str
    paper: str = ""
    """The paper's figures, `run against against`; empty where it only draws or says it."""
    expects: Expects = "more"
    """`more`: the run has more; `less`; `same`: they differ by less than `SAME` points; `no more`: at most by that."""
    against_measure: str = ""
    """The other side's measure, where it is another one."""

    @property
    def paper_difference(self) -> float | None:
        """The difference of the paper's figures; None where it gives none."""
        run, _, against = self.paper.partition(" / ")
        return float(run) - float(against) if against else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of a claim."""

    claim: Claim
    run: float
    """Mean over the seeds."""
    against: float
    difference: float
    low: float | None
    high: float | None
    """Ends of the interval; None with one seed, which tells nothing of others."""
    by_seed: tuple[float, ...]
    """Difference of every seed; one of models that are not trained."""
    outcome: str
    """`HOLDS`, `FAILS` or `OPEN`."""

    @property
    def beside_paper(self) -> str:
        """`less than the paper's` where the interval lies below the paper's difference, `more ...` above; else empty.

        Of a claim of less it is the other way round: a larger drop is more.
        """
        paper = self.claim.paper_difference
        if paper is None or self.low is None or self.high is None:
            return ""
        below, above = self.high < paper, self.low > paper
        if self.claim.expects == "less":
            below, above = above, below
        return "less than the paper's" if below else "more than the paper's" if above else ""

    @property
    def at_most_small(self) -> bool:
        """Whether the interval lies within `SAME` points: if there is a difference, it is no larger."""
        return self.low is not None and self.high is not None and self.low >= -SAME and self.high <= SAME

    def to_json(self) -> dict[str, Any]:
        """The verdict as an object of the raw results."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Verdict:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        own = {**entry, "claim": Claim(**entry["claim"]), "by_seed": tuple(map(float, entry["by_seed"]))}
        for name in ("run", "against", "difference"):
            own[name] = float(entry[name])
        for name in ("low", "high"):
            own[name] = None if entry[name] is None else float(entry[name])
        found = cls(**own)
        if found.outcome not in (HOLDS, FAILS, OPEN):
            raise ValueError(f"there is no verdict {found.outcome}")
        if found.claim.expects not in get_args(Expects):
            raise ValueError(f"no claim expects {found.claim.expects}")
        _ = found.claim.paper_difference  # raises a ValueError if the paper's figures are not numbers
        return found


def decide(
    claim: Claim, point: Mapping[str, Mapping[str, Floats]], drawn: Mapping[str, Mapping[str, Floats]]
) -> Verdict:
    """Decide a claim by the interval of the difference, on the seeds that both runs have.

    The interval is Student's t of the seeds' differences, their variance and that over clips added: so few seeds can't
    be resampled as clips can, and the least and the largest of three differences are not a 95 % interval. Where neither
    run is trained, all seeds are copies of one model; the interval is then normal, over clips alone.

    Args:
        claim: What to decide.
        point: Run to measure to float64 [seeds], the first seeds of every run being the same.
        drawn: Run to measure to float64 [resamples, seeds], the same draws for every run.
    """
    other = claim.against_measure or claim.measure
    run, against = point[claim.run][claim.measure], point[claim.against][other]
    seeds = min(len(run), len(against))
    redrawn = [
        drawn[name][measure][:, :seeds] for name, measure in ((claim.run, claim.measure), (claim.against, other))
    ]
    copies = seeds > 1 and all((values == values[:, :1]).all() for values in redrawn)
    counted = 1 if copies else seeds
    run, against = run[:counted], against[:counted]
    difference = run - against
    mean, low, high = float(difference.mean()), None, None
    if seeds > 1:
        of_seeds = 0.0 if copies else difference.var(ddof=1) / seeds
        of_clips = (redrawn[0] - redrawn[1]).mean(axis=1).var()
        edge = norm.ppf((1 + LEVEL) / 2) if copies else student_t.ppf((1 + LEVEL) / 2, seeds - 1)
        half = float(edge * np.sqrt(of_seeds + of_clips))
        low, high = mean - half, mean + half
    return Verdict(
        claim,
        float(run.mean()),
        float(against.mean()),
        mean,
        low,
        high,
        tuple(map(float, difference)),
        _outcome(claim.expects, low, high),
    )


def _outcome(expects: Expects, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return OPEN
    if expects == "same":
        if low >= -SAME and high <= SAME:
            return HOLDS
        return FAILS if low > SAME or high < -SAME else OPEN
    if expects == "no more":
        low, high = SAME - high, SAME - low
    elif expects == "less":
        low, high = -high, -low
    if low > 0:
        return HOLDS
    return FAILS if high < 0 else OPEN
