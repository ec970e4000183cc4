"""What follows from the proof's raw results: every measure, every verdict, and where the noise is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from avem.evaluate.bootstrap import Floats
from avem.tools.project.proof.claims import AVEM, BEYOND, beyond_claims, own_claims, paper_claims
from avem.tools.project.proof.plan import BASE_MARK
from avem.tools.project.proof.results.counts import resampled
from avem.tools.project.proof.results.odds import TWINS
from avem.tools.project.proof.results.probing import PROBES
from avem.tools.project.proof.results.record import Record, intact
from avem.tools.project.proof.variance import split
from avem.tools.project.proof.verdicts import Claim, Verdict, decide

RESAMPLES = 4000
SAME_OBJECTIVE = (AVEM, "grouped", "independent", "int8 features")
"""Runs of one objective, whose rows went through the model in another order or with features in another format."""
OTHER_ORDERS = ("grouped", "independent")
"""Those of them that differ in the order of the rows alone."""
Points = Mapping[str, Mapping[str, Floats]]


class Evaluation(NamedTuple):
    """Raw results and what follows from them; everything that is shown is made of it."""

    record: Record
    verdicts: list[Verdict]
    """Those of the probes last."""
    twins: list[Verdict]
    """The same claims in threshold-free measures, where there are such."""
    point: Points
    """Run to measure to float64 [seeds]."""
    orders: list[dict[str, Verdict]]
    """For each claim about AVEm-DPO's answers, the verdict on the same claim about every run of `SAME_OBJECTIVE`."""
    bases: list[dict[str, Verdict]]
    """For each claim whose runs were made from several bases, the verdict from each; `""` is the first base."""
    noise: dict[str, dict[str, float]]
    """Where AVEm-DPO's measures vary (`avem.tools.project.proof.variance.split`); empty without its runs."""


def evaluate_record(record: Record) -> Evaluation:
    """Decide every claim whose runs are there.

    Raises:
        DataError: What was probed is damaged.
    """
    point, drawn = resampled(record.counts(), RESAMPLES, 0)
    telling, redrawn = record.detected()
    asked = (*paper_claims(), *own_claims(), *beyond_claims())
    all_claims = [claim for claim in asked if {claim.run, claim.against} <= point.keys()]
    verdicts = [decide(claim, point, drawn) for claim in all_claims]
    twins = [
        decide(twin, telling, redrawn)
        for twin in map(twin_of, all_claims)
        if twin is not None and {twin.run, twin.against} <= telling.keys()
    ]
    with intact("The results' `probed`", "run `avem proof run` again"):
        probed = [Verdict.from_json(entry) for entry in record.about.get("probed", [])]
        measured = {name for found in probed for name in (found.claim.measure, found.claim.against_measure) if name}
        if unknown := measured - PROBES.keys():
            raise ValueError(f"there is no measure {min(unknown)}")
    orders = [
        {run: decide(_of(run, claim), point, drawn) for run in SAME_OBJECTIVE if run in point}
        for claim in all_claims
        if claim.run == AVEM and claim.source != BEYOND
    ]
    marks = sorted({"", *(f"{BASE_MARK}{run.rpartition(BASE_MARK)[2]}" for run in point if BASE_MARK in run)})
    bases = [
        {
            mark: decide(moved, point, drawn)
            for mark in marks
            for moved in [_from_base(mark, claim)]
            if {moved.run, moved.against} <= point.keys()
        }
        for claim in all_claims
    ]
    clips = {name: float(values[:, 0].var()) for own in (drawn, redrawn) for name, values in own.get(AVEM, {}).items()}
    noise = split(record.levels(), clips) if AVEM in telling else {}
    return Evaluation(
        record,
        verdicts + probed,
        twins,
        {run: {**own, **telling.get(run, {})} for run, own in point.items()},
        orders,
        [own for own in bases if len(own) > 1],
        noise,
    )


def _from_base(mark: str, claim: Claim) -> Claim:
    """A claim as one about the same runs from another base."""
    return replace(claim, run=claim.run + mark, against=claim.against + mark)


def twin_of(claim: Claim) -> Claim | None:
    """The claim in the threshold-free twin of its measure; None where there is none."""
    if claim.measure not in TWINS or claim.against_measure:
        return None
    return replace(claim, measure=TWINS[claim.measure], paper="")


def _of(run: str, claim: Claim) -> Claim:
    """A claim about AVEm-DPO as one about another run, which is compared with itself where AVEm-DPO is."""
    return replace(claim, run=run, against=run if claim.against == claim.run else claim.against)
