"""Counts of verdicts that come out the same way: from several bases, and in two results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from avem.evaluate.sheets import Sheet
from avem.tools.project.proof.evaluation import Evaluation
from avem.tools.project.proof.verdicts import OPEN, Verdict

TOGETHER = "together"


def bases_tally(by_claim: Sequence[Mapping[str, Verdict]]) -> Sheet:
    """How many of the claims that the first base decides have the same sign from every other base.

    Args:
        by_claim: For each claim the verdict from each base; `""` is the first. One that a base lacks is left out.

    Returns:
        Counts by source, and together; no rows where no claim is decided.
    """
    marks = {mark for own in by_claim for mark in own}
    decided: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    for own in by_claim:
        if own.keys() == marks and own[""].outcome != OPEN:
            source = own[""].claim.source
            decided[source] += 1
            alike[source] += len({found.difference > 0 for found in own.values()}) == 1
    records = [{"from": source, "decided": decided[source], "same_sign": alike[source]} for source in decided]
    if records:
        records.append({"from": TOGETHER, "decided": decided.total(), "same_sign": alike.total()})
    header = ("from", "decided on the first base", f"same sign on all {len(marks)} bases")
    return Sheet(
        "Claims from several bases", header, tuple(tuple(map(str, one.values())) for one in records), tuple(records)
    )


def beside(evaluation: Evaluation, other: Evaluation) -> Sheet:
    """How many claims two results both decide, and how many of these alike: in F1 and accuracy, and in AUC.

    Args:
        evaluation: One of them.
        other: The other.
    """
    kinds = {
        "the paper's measures": (evaluation.verdicts, other.verdicts),
        "AUC": (evaluation.twins, other.twins),
    }
    records = []
    for kind, (own, others) in kinds.items():
        theirs = {_asked(found): found.outcome for found in others}
        both = [
            (found.outcome, theirs[_asked(found)])
            for found in own
            if OPEN not in (found.outcome, theirs.get(_asked(found), OPEN))
        ]
        records.append({"in": kind, "decided": len(both), "alike": sum(one == two for one, two in both)})
    header = ("in", "decided in both", "decided alike")
    return Sheet(
        "Claims in two results", header, tuple(tuple(map(str, one.values())) for one in records), tuple(records)
    )


def _asked(found: Verdict) -> tuple[str, ...]:
    """What tells a claim from others."""
    claim = found.claim
    return claim.source, claim.says, claim.measure, claim.run, claim.against, claim.against_measure
