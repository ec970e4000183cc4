"""The proof's tables: the verdicts on its raw results, and counts of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from avem.evaluate.sheets import Sheet
from avem.tools.project.proof.claims import AVEM, NOT_THE_PAPERS
from avem.tools.project.proof.comparison import TOGETHER, bases_tally, same_sign
from avem.tools.project.proof.evaluation import OTHER_ORDERS, SAME_OBJECTIVE, Evaluation, Points
from avem.tools.project.proof.plan import BASE_MARK
from avem.tools.project.proof.results.counts import MEASURES
from avem.tools.project.proof.results.naming import NAMED
from avem.tools.project.proof.results.odds import DETECTION, DISTANCES
from avem.tools.project.proof.results.probing import PROBES
from avem.tools.project.proof.results.record import Record, intact
from avem.tools.project.proof.results.rewards import REWARDS, mean_rewards
from avem.tools.project.proof.trials import candidates_sheet, curves_sheet
from avem.tools.project.proof.variance import MORE_CLIPS, MORE_SEEDS, needed_to_decide, variance_sheet
from avem.tools.project.proof.verdicts import FAILS, HOLDS, OPEN, SAME, Verdict
from avem.tools.sweep.grid import Grid, read_grid, without_blocks
from avem.tools.sweep.outcome import make_sheet
from avem.tools.sweep.run import RunResult

TABLES = (
    "table3",
    "table5",
    "table17",
    "table18",
    "strengths",
    "pairing",
    "storage",
    "split",
    "rivals",
    "corrections",
    "adapters",
)
"""Grids whose means are shown."""

SAID = ("table3", "table5", "table17", "table18")
"""Grids whose yes and no are shown apart."""
COST = {"seconds": "seconds of training", "constants": "scores looked up"}
"""What a run took (`avem.tools.project.proof.results.cost`)."""
BySeed = Mapping[str, Mapping[str, float]]


def make_sheets(evaluation: Evaluation) -> dict[str, Sheet]:
    """Every table by name: `tally`, `claims`, one for each grid that was run, and those of further results.

    Raises:
        DataError: What is stored with the answers is damaged.
    """
    sheets = {"tally": _tally(evaluation.verdicts), "claims": _claims(evaluation.verdicts)}
    for name in TABLES:
        grid = without_blocks(read_grid(name))
        if any(run.name in evaluation.point for run in grid.runs):
            sheets[name] = make_sheet(grid, grid_results(grid, evaluation.point))
    further = {
        "twins": _claims(evaluation.twins),
        **({"tally_auc": replace(_tally(evaluation.twins), title="Verdicts in AUC")} if evaluation.twins else {}),
        "open": open_claims(evaluation.verdicts),
        "widths": _widths(evaluation.verdicts),
        "said": _said(evaluation.point),
        "detection": _detection(evaluation.point),
        "bases": _bases(evaluation.bases),
        "bases_tally": bases_tally(evaluation.bases),
        "noise": variance_sheet(evaluation.noise),
    }
    sheets |= {name: sheet for name, sheet in further.items() if sheet.rows}
    if any(len(own) > 1 for own in evaluation.orders):
        sheets["orders"] = _orders(evaluation.orders)
        if not evaluation.orders[0].keys().isdisjoint(OTHER_ORDERS):
            sheets["steady"] = _steady(evaluation.orders)
    about, second = evaluation.record.about, _second_names(evaluation.record)
    makers: dict[str, tuple[str, Callable[[Any], Sheet]]] = {
        "candidates": ("settings", candidates_sheet),
        "curves": ("curves", curves_sheet),
        "named": ("named", partial(_named, passed_over=second)),
        "rewards": ("rewards", partial(_rewards, passed_over=second)),
        "probes": ("probes", _probes),
        "cost": ("cost", partial(_cost, passed_over=second)),
    }
    for kept, (name, make) in makers.items():
        if about.get(kept):
            with intact(f"The results' `{kept}`", "run `avem proof run` again"):
                sheets[name] = make(about[kept])
    return sheets


def grid_results(grid: Grid, point: Points) -> list[RunResult]:
    """What a grid's rows came to with the seeds that all of them have, for its table and its figure.

    A row that changes nothing is AVEm-DPO itself, also where it did not run under its own name.
    """
    unchanged = {run.name for run in grid.runs if not run.settings and not run.decoding}
    names = {run.name: AVEM if run.name in unchanged and run.name not in point else run.name for run in grid.rows}
    rows = {row: name for row, name in names.items() if name in point}
    seeds = min((len(point[name][grid.columns[0]]) for name in rows.values()), default=0)
    return [
        RunResult(row, seed, {measure: float(values[seed]) for measure, values in point[name].items()}, Path())
        for row, name in rows.items()
        for seed in range(seeds)
    ]


def _named(found: Mapping[str, BySeed], passed_over: Collection[str]) -> Sheet:
    records: list[dict[str, Any]] = [
        {"run": run, "seeds": len(own), **{kind: fmean(one[kind] for one in own.values()) for kind in NAMED}}
        for run, own in found.items()
        if run not in passed_over
    ]
    rows = tuple((one["run"], str(one["seeds"]), *(f"{one[kind]:.1f}" for kind in NAMED)) for one in records)
    header = ("run", "seeds", *NAMED.values())
    return Sheet("What answers to basic questions name, percent", header, rows, tuple(records))


def _rewards(found: Mapping[str, BySeed], passed_over: Collection[str]) -> Sheet:
    blank = dict.fromkeys(REWARDS)
    records: list[dict[str, Any]] = [
        {"run": run, "seeds": len(own), **blank, **mean_rewards(list(own.values()))}
        for run, own in found.items()
        if run not in passed_over
    ]
    rows = tuple(
        (one["run"], str(one["seeds"]), *("" if one[name] is None else f"{one[name]:.1f}" for name in REWARDS))
        for one in records
    )
    return Sheet("Where training ended", ("run", "seeds", *REWARDS.values()), rows, tuple(records))


def _cost(found: Mapping[str, Mapping[str, Mapping[str, int]]], passed_over: Collection[str]) -> Sheet:
    """What training took: a run's mean over its seeds, and all runs together in hours."""
    records: list[dict[str, Any]] = [
        {"run": run, "seeds": len(own), **{name: fmean(one[name] for one in own.values()) for name in COST}}
        for run, own in found.items()
        if run not in passed_over
    ]
    rows = [(one["run"], str(one["seeds"]), *(f"{one[name]:,.0f}" for name in COST)) for one in records]
    every = [one for run, own in found.items() if run not in passed_over for one in own.values()]
    seconds, constants = (sum(one[name] for one in every) for name in COST)
    rows.append((TOGETHER, str(len(every)), f"{seconds / 3600:.1f} h", f"{constants:,}"))
    return Sheet("What training took", ("run", "seeds", *COST.values()), tuple(rows), tuple(records))


def _second_names(record: Record) -> set[str]:
    """Runs that are another's under a second name: every answer of every seed is the same.

    The name that has more seeds stays, and of those with as many the first.
    """
    rank = {run: (-len(own), position) for position, (run, own) in enumerate(record.right.items())}
    return {
        run
        for run, own in record.right.items()
        for other, right in record.right.items()
        if rank[other] < rank[run] and all(seed in right and (own[seed] == right[seed]).all() for seed in own)
    }


def _probes(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Sheet:
    records = [{"run": run, **{name: fmean(own[name]) for name in PROBES}} for run, own in found.items()]
    header = ("measured", *found)
    rows = tuple((title, *(f"{own[name]:.{_decimals(name)}f}" for own in records)) for name, title in PROBES.items())
    return Sheet("Swapped modalities, attention, single modalities", header, rows, tuple(records))


def _said(point: Points) -> Sheet:
    """What an F1 is made of: a run that says yes to everything has 0 there and is right half of the time."""
    tasks = ("agree", "stress")
    records: list[dict[str, Any]] = []
    for run in dict.fromkeys(run.name for name in SAID for run in read_grid(name).rows if run.name in point):
        own: dict[str, Any] = {"run": run}
        for task in tasks:
            yes, no = (float(point[run][f"{task}_{what}"].mean()) for what in ("yes", "no"))
            own |= {f"{task}_yes": yes, f"{task}_no": no, f"{task}_mean": (yes + no) / 2}
        records.append(own)
    header = ("run", *(f"{task}, {what}" for task in ("agreement", "stress") for what in ("yes", "no", "mean of both")))
    order = [f"{task}_{what}" for task in tasks for what in ("yes", "no", "mean")]
    rows = tuple((one["run"], *(f"{one[name]:.1f}" for name in order)) for one in records)
    return Sheet("Right answers to yes and to no questions, percent", header, rows, tuple(records))


def _detection(point: Points) -> Sheet:
    """Threshold-free measures of every run: AUC in percent, d' in standard deviations."""
    titles = {**DETECTION, **DISTANCES}
    runs = [run for run in point if BASE_MARK not in run and DETECTION.keys() <= point[run].keys()]
    records = [{"run": run, **{name: float(point[run][name].mean()) for name in titles}} for run in runs]
    rows = tuple(
        (str(one["run"]), *(f"{one[name]:.{1 if name in DETECTION else 2}f}" for name in titles)) for one in records
    )
    return Sheet("Telling yes from no without a threshold", ("run", *titles.values()), rows, tuple(records))


def _bases(by_claim: Sequence[Mapping[str, Verdict]]) -> Sheet:
    """The differences of the same claims from several bases."""
    marks = sorted({mark for own in by_claim for mark in own})
    rows, records = [], []
    for own in by_claim:
        claim = own[""].claim
        differences = [own[mark].difference if mark in own else None for mark in marks]
        alike = same_sign(own.values())
        cells = ["" if value is None else f"{value:+.1f}" for value in differences]
        rows.append((claim.says, MEASURES[claim.measure], own[""].outcome, *cells, "yes" if alike else "no"))
        records += [_flat(found) for found in own.values()]
    header = (
        "the paper's claim",
        "in",
        "verdict",
        *(f"base {mark[len(BASE_MARK) :] or 0}" for mark in marks),
        "same sign",
    )
    return Sheet("The same differences from other bases", header, tuple(rows), tuple(records))


def _orders(by_claim: Sequence[Mapping[str, Verdict]]) -> Sheet:
    rows, records = [], []
    for own in by_claim:
        claim = own[AVEM].claim
        rows.append(
            (
                claim.says,
                MEASURES[claim.measure],
                *(f"{_span(own[run])}, {own[run].outcome}" if run in own else "" for run in SAME_OBJECTIVE),
            )
        )
        records += [_flat(found) for found in own.values()]
    header = ("the paper's claim", "in", *SAME_OBJECTIVE)
    return Sheet("The same claims of other runs of the same objective", header, tuple(rows), tuple(records))


def _steady(by_claim: Sequence[Mapping[str, Verdict]]) -> Sheet:
    """How many of the verdicts on AVEm-DPO are those of the same rows in another order, too."""
    orders = [run for run in OTHER_ORDERS if run in by_claim[0]]
    agreeing: dict[str, Counter[int]] = {}
    for own in by_claim:
        verdict = own[AVEM].outcome
        agreeing.setdefault(verdict, Counter())[sum(own[run].outcome == verdict for run in orders)] += 1
    header = (
        "verdict on AVEm-DPO",
        "claims",
        *(f"the same in {count} of {len(orders)} other orders" for count in range(len(orders), -1, -1)),
    )
    records = [
        {
            "verdict": verdict,
            "claims": sum(agreeing[verdict].values()),
            **{f"same_in_{count}": agreeing[verdict][count] for count in range(len(orders), -1, -1)},
        }
        for verdict in (HOLDS, FAILS, OPEN)
        if verdict in agreeing
    ]
    return Sheet.of_records("The order of rows", header, records)


def _widths(verdicts: Sequence[Verdict]) -> Sheet:
    """How wide the intervals are: which differences can be distinguished."""
    widths: dict[str, dict[int, list[float]]] = {}
    for found in verdicts:
        if found.low is not None and found.high is not None and found.claim.measure in MEASURES:
            own = widths.setdefault(found.claim.measure, {})
            own.setdefault(len(found.by_seed), []).append((found.high - found.low) / 2)
    seeds = sorted({count for own in widths.values() for count in own})
    rows, records = [], []
    for measure in filter(widths.__contains__, MEASURES):
        medians = {count: median(widths[measure][count]) if count in widths[measure] else None for count in seeds}
        rows.append((MEASURES[measure], *("" if half is None else f"{half:.1f}" for half in medians.values())))
        records.append({"measure": measure, **{f"seeds_{count}": half for count, half in medians.items()}})
    header = ("median half-width of the intervals, points", *(f"{count} seeds" for count in seeds))
    return Sheet("Which effects can be detected", header, tuple(rows), tuple(records))


def _claims(verdicts: Sequence[Verdict]) -> Sheet:
    header = (
        "the paper's claim",
        "in",
        "verdict",
        "difference",
        "found",
        "paper",
        "by seed",
        "seeds to decide",
        "run / against",
        "from",
    )
    rows = []
    for found in verdicts:
        claim, decimals = found.claim, _decimals(found.claim.measure)
        rows.append(
            (
                claim.says,
                " / ".join(_title(name) for name in (claim.measure, claim.against_measure) if name),
                "; ".join(filter(None, (found.outcome, found.beside_paper))),
                _span(found),
                f"{found.run:.{decimals}f} / {found.against:.{decimals}f}",
                claim.paper,
                ", ".join(f"{value:+.{decimals}f}" for value in found.by_seed),
                needed_to_decide(found),
                " / ".join(dict.fromkeys((claim.run, claim.against))),
                claim.source,
            )
        )
    return Sheet("The paper's claims", header, tuple(rows), tuple(map(_flat, verdicts)))


def _flat(found: Verdict) -> dict[str, Any]:
    """A verdict as one flat object."""
    own = {name: value for name, value in found.to_json().items() if name not in ("claim", "run", "against", "by_seed")}
    found_levels = {"found_run": found.run, "found_against": found.against}
    return {**asdict(found.claim), **found_levels, **own, "seeds_to_decide": needed_to_decide(found)}


def _title(measure: str) -> str:
    return {**MEASURES, **DETECTION, **PROBES}[measure]


def _decimals(measure: str) -> int:
    """Decimals of a measure: shifts are parts of a nat."""
    return 2 if measure.startswith("shift") else 1


def _span(found: Verdict) -> str:
    """The difference with its interval."""
    decimals = _decimals(found.claim.measure)
    span = f"{found.difference:+.{decimals}f}"
    return span if found.low is None else f"{span} [{found.low:+.{decimals}f}, {found.high:+.{decimals}f}]"


def open_claims(verdicts: Sequence[Verdict]) -> Sheet:
    """What would decide the paper's claims that are still open."""
    spans = {"up to 8": (0, 8), "9 to 15": (9, 15), "16 to 30": (16, 30)}
    columns = (*spans, MORE_SEEDS, MORE_CLIPS)
    counts: dict[str, Counter[str]] = {}
    for found in verdicts:
        needed = needed_to_decide(found)
        if needed and found.claim.source not in NOT_THE_PAPERS:
            fits = [name for name, (least, most) in spans.items() if needed.isdigit() and least <= int(needed) <= most]
            counts.setdefault(found.claim.source, Counter())[fits[0] if fits else needed] += 1
    if counts:
        counts[TOGETHER] = sum(counts.values(), Counter())
    records = [{"from": source, **{name: own[name] for name in columns}} for source, own in counts.items()]
    return Sheet.of_records("Seeds that would decide open claims", ("from", *columns), records)


def _tally(verdicts: Sequence[Verdict]) -> Sheet:
    """Verdicts by source, those of the paper's claims together, then avem's own.

    The last columns say what is known of open claims all the same: that the difference is smaller than the paper's,
    where the paper gives figures, and that it is at most `SAME` points.
    """
    columns = {name: name for name in (HOLDS, FAILS, OPEN)}
    if any(found.claim.paper for found in verdicts):
        columns["less"] = "open, less than the paper's"
    columns["small"] = f"open, at most {SAME:g} points"
    counts: dict[str, Counter[str]] = {}
    for found in verdicts:
        own = counts.setdefault(found.claim.source, Counter())
        own[found.outcome] += 1
        if found.outcome == OPEN:
            own["less"] += found.beside_paper.startswith("less")
            own["small"] += found.at_most_small and _decimals(found.claim.measure) == 1  # shifts are in nats
    others = {title: counts.pop(source) for source, title in NOT_THE_PAPERS.items() if source in counts}
    counts["the paper's claims together"] = sum(counts.values(), Counter())
    counts |= others
    records = [{"source": source, **{name: found[name] for name in columns}} for source, found in counts.items()]
    return Sheet.of_records("Verdicts", ("from", *columns.values()), records)
