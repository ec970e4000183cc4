"""Counts of verdicts that come out the same way: from several bases, and in two results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from avem.evaluate.sheets import Sheet
from avem.tools.project.proof.claims import NOT_THE_PAPERS
from avem.tools.project.proof.evaluation import Evaluation
from avem.tools.project.proof.verdicts import OPEN, Verdict

TOGETHER = "together"


def bases_tally(by_claim: Sequence[Mapping[str, Verdict]]) -> Sheet:
    """How many of the paper's claims that the first base decides have the same sign from every other base.

    Args:
        by_claim: For each claim the verdict from each base; `""` is the first. One that a base lacks is left out.

    Returns:
        Counts by source, and together; no rows where no claim is decided.
    """
    marks = {mark for own in by_claim for mark in own}
    decided: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    for own in by_claim:
        source = own[""].claim.source
        if own.keys() == marks and own[""].outcome != OPEN and source not in NOT_THE_PAPERS:
            decided[source] += 1
            alike[source] += same_sign(own.values())
    records = [{"from": source, "decided": decided[source], "same_sign": alike[source]} for source in decided]
    if records:
        records.append({"from": TOGETHER, "decided": decided.total(), "same_sign": alike.total()})
    header = ("from", "decided on the first base", f"same sign on all {len(marks)} bases")
    return Sheet.of_records("Claims from several bases", header, records)


def same_sign(verdicts: Iterable[Verdict]) -> bool:
    """Whether every difference is above zero, or every one below."""
    return len({np.sign(found.difference) for found in verdicts}) == 1


def beside(evaluation: Evaluation, other: Evaluation) -> Sheet:
    """How many of the paper's claims two results both decide, and how many of these alike.

    Args:
        evaluation: One of them.
        other: The other.

    Returns:
        A row for the paper's measures and one for AUC.
    """
    kinds = {
        "the paper's measures": (evaluation.verdicts, other.verdicts),
        "AUC": (evaluation.twins, other.twins),
    }
    records = []
    for kind, (own, others) in kinds.items():
        theirs = {found.claim: found.outcome for found in others}
        both = [
            (found.outcome, theirs[found.claim])
            for found in own
            if found.claim.source not in NOT_THE_PAPERS and OPEN not in (found.outcome, theirs.get(found.claim, OPEN))
        ]
        records.append({"in": kind, "decided": len(both), "alike": sum(one == two for one, two in both)})
    header = ("in", "decided in both", "decided alike")
    return Sheet.of_records("Claims in two results", header, records)
