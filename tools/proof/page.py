"""The proof's tables, as Markdown between the marks of `docs/proof.md` and as a page.

    python -m avem.tools.proof.page docs/proof.json docs/proof.md --figures docs/images
    python -m avem.tools.proof.page docs/smollm2.json docs/proof.md --prefix smollm2

make the tables of the page, and its figures, again from the raw results.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from markupsafe import Markup

from avem import __version__
from avem.errors import DataError
from avem.evaluate.page import page_environment
from avem.evaluate.sheets import Sheet
from avem.files import write_atomic
from avem.tools.proof.claims import FAILS, HOLDS, OPEN, Verdict, judge, own_claims, paper_claims
from avem.tools.proof.counts import MEASURES, Floats, resampled
from avem.tools.proof.figure import draw_claims
from avem.tools.proof.naming import NAMED
from avem.tools.proof.probing import PROBES
from avem.tools.proof.record import Record
from avem.tools.proof.rewards import REWARDS, mean_rewards
from avem.tools.sweep.grid import Grid, read_grid
from avem.tools.sweep.outcome import draw, make_sheet
from avem.tools.sweep.run import RunResult

RESAMPLES = 4000
TABLES = ("table3", "table5", "table17", "table18", "strengths", "pairing", "storage")
"""Grids whose means are shown."""

LEDE = (
    "Drawn faces and synthesised voices, judged on clips of persons that no model has met. Percent, with 95 % "
    "intervals over seeds and clips; a claim holds where the interval of the difference lies on its side of zero. One "
    "seed has no interval and judges nothing."
)
Points = Mapping[str, Mapping[str, Floats]]


class Judged(NamedTuple):
    """Raw results and what follows from them; everything that is shown is made of it."""

    record: Record
    verdicts: list[Verdict]
    """Those of the probes last."""
    point: Points
    """Run to measure to float64 [seeds]."""


def judge_record(record: Record) -> Judged:
    """Judge every claim whose runs are there."""
    point, drawn = resampled(record.counts(), RESAMPLES, 0)
    claims = [claim for claim in (*paper_claims(), *own_claims()) if {claim.run, claim.against} <= point.keys()]
    verdicts = [judge(claim, point, drawn) for claim in claims]
    verdicts += [Verdict.from_json(entry) for entry in record.about.get("probed", [])]
    return Judged(record, verdicts, point)


def make_sheets(judged: Judged) -> dict[str, Sheet]:
    """Every table by name: `tally`, `claims`, and one for each grid that was run."""
    record, verdicts, point = judged
    sheets = {"tally": _tally(verdicts), "claims": _claims(verdicts)}
    if candidates := record.about.get("candidates"):
        sheets["settings"] = candidates_sheet(candidates)
    if names := record.about.get("named"):
        sheets["named"] = _named(names)
    if ended := record.about.get("rewards"):
        sheets["rewards"] = _rewards(ended)
    for name in TABLES:
        grid = read_grid(name)
        if results := grid_results(grid, point):
            sheets[name] = make_sheet(grid, results)
    return sheets


def draw_figures(judged: Judged) -> dict[str, str]:
    """Every figure by name as SVG: `claims`, and `strengths`, Fig. 11 on the proof's ground; none without its runs."""
    grid = read_grid("strengths")
    results = grid_results(grid, judged.point)
    figures = {"claims": draw_claims(judged.verdicts), "strengths": draw(grid, results) if results else ""}
    return {name: svg for name, svg in figures.items() if svg}


def grid_results(grid: Grid, point: Points) -> list[RunResult]:
    """What a grid's rows came to, for its table and its figure."""
    return [
        RunResult(run.name, seed, {name: float(values[seed]) for name, values in point[run.name].items()}, Path())
        for run in grid.rows if run.name in point
        for seed in range(len(point[run.name][grid.columns[0]]))
    ]  # fmt: skip


def candidates_sheet(found: Sequence[Mapping[str, Any]]) -> Sheet:
    """What was tried on the validation clips."""
    columns = [name for name in found[0] if name in MEASURES]
    rows = tuple((one["run"], *(f"{one[name]:.1f}" for name in (*columns, "mean"))) for one in found)
    header = ("run", *(MEASURES[name] for name in columns), "mean of the first three")
    return Sheet("Settings tried on the validation clips", header, rows, tuple(found))


def _named(found: Mapping[str, Sequence[Mapping[str, float]]]) -> Sheet:
    records = [
        {"run": run, **{kind: sum(one[kind] for one in by_seed) / len(by_seed) for kind in NAMED}}
        for run, by_seed in found.items()
    ]
    rows = tuple((str(one["run"]), *(f"{one[kind]:.1f}" for kind in NAMED)) for one in records)
    return Sheet("What answers to basic questions name, percent", ("run", *NAMED.values()), rows, tuple(records))


def _rewards(found: Mapping[str, Sequence[Mapping[str, float]]]) -> Sheet:
    records: list[dict[str, Any]] = [{"run": run, **mean_rewards(by_seed)} for run, by_seed in found.items()]
    rows = tuple((one["run"], *(f"{one[name]:.1f}" if name in one else "" for name in REWARDS)) for one in records)
    return Sheet("Where training ended", ("run", *REWARDS.values()), rows, tuple(records))


def _claims(verdicts: Sequence[Verdict]) -> Sheet:
    header = ("the paper's claim", "from", "in", "paper", "found", "difference", "by seed", "verdict")
    rows, records = [], []
    for found in verdicts:
        claim = found.claim
        places = 2 if claim.measure.startswith("shift") else 1
        span = f"{found.difference:+.{places}f}"
        if found.low is not None:
            span += f" [{found.low:+.{places}f}, {found.high:+.{places}f}]"
        by_seed = ", ".join(f"{value:+.{places}f}" for value in found.by_seed)
        rows.append(
            (claim.says, claim.source, {**MEASURES, **PROBES}[claim.measure], claim.paper,
             f"{found.run:.{places}f} / {found.against:.{places}f}", span, by_seed, found.outcome)
        )  # fmt: skip
        records.append(found.to_json())
    return Sheet("The paper's claims", header, tuple(rows), tuple(records))


def _tally(verdicts: Sequence[Verdict]) -> Sheet:
    counts: dict[str, Counter[str]] = {}
    for found in verdicts:
        counts.setdefault(found.claim.source, Counter())[found.outcome] += 1
    counts["all"] = sum(counts.values(), Counter())
    rows = [(source, *(str(own[outcome]) for outcome in (HOLDS, FAILS, OPEN))) for source, own in counts.items()]
    records = [{"source": source, **own} for source, own in counts.items()]
    return Sheet("Verdicts", ("from", HOLDS, FAILS, OPEN), tuple(rows), tuple(records))


def write_page(path: Path, record: Record) -> dict[str, Sheet]:
    """Write every table and the figure of raw results as one HTML page, and return the tables by name."""
    judged = judge_record(record)
    sheets = make_sheets(judged)
    page = page_environment().get_template("sheets.html.jinja")
    content = page.render(
        over="Proof", title="What holds of the paper, where every cue is known", lede=LEDE,
        sheets=list(sheets.values()), pictures=list(map(Markup, draw_figures(judged).values())), version=__version__,
    )  # fmt: skip
    write_atomic(path, content)
    return sheets


def fill(text: str, blocks: Mapping[str, str], prefix: str = "") -> str:
    """Put blocks between the marks `<!-- NAME -->` and `<!-- end -->` of a page.

    Args:
        text: The page.
        blocks: Name to what goes between its marks.
        prefix: What stands before the names in the marks, `<!-- PREFIX NAME -->`; other marks stay as they are.

    Raises:
        DataError: The page has a mark of an unknown name.
    """
    before = f"{prefix} " if prefix else ""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        if name not in blocks:
            raise DataError(f"The page has a place for {name}, which there is no result of; run that part first.")
        return f"<!-- {before}{name} -->\n{blocks[name]}<!-- end -->"

    return re.sub(rf"<!-- {before}(\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main(
    results: Annotated[Path, typer.Argument(help="Raw results, as `avem sweep proof` writes them.")],
    page: Annotated[Path, typer.Argument(help="Markdown page whose tables are made again.")],
    prefix: Annotated[str, typer.Option(help="What stands before the names in the marks of these results.")] = "",
    figures: Annotated[Path | None, typer.Option(help="Folder for proof-claims.svg and proof-strengths.svg.")] = None,
) -> None:
    """Make the tables of a page, and its figures, again from raw results."""
    judged = judge_record(Record.read(results))
    blocks = {name: sheet.form("markdown") for name, sheet in make_sheets(judged).items()}
    write_atomic(page, fill(page.read_text(encoding="utf-8"), blocks, prefix))
    if figures is not None:
        for name, svg in draw_figures(judged).items():
            write_atomic(figures / f"proof-{name}.svg", svg)


if __name__ == "__main__":
    typer.run(main)
