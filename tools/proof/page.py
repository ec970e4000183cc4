"""The proof's tables, as Markdown between the marks of `docs/proof.md` and as a page.

    python -m avem.tools.proof.page docs/proof.json docs/proof.md

makes the tables of the page again from the raw results.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from avem import __version__
from avem.errors import DataError
from avem.evaluate.page import page_environment
from avem.evaluate.sheets import Sheet
from avem.files import write_atomic
from avem.tools.proof.claims import FAILS, HOLDS, OPEN, Verdict, judge, own_claims, paper_claims
from avem.tools.proof.counts import MEASURES, Floats, resampled
from avem.tools.proof.probing import PROBES
from avem.tools.proof.record import Record
from avem.tools.sweep.grid import Grid, read_grid

RESAMPLES = 4000
TABLES = ("table3", "table5", "table17", "table18", "strengths", "pairing", "storage")
"""Grids whose means are shown."""

LEDE = (
    "Drawn faces and synthesised voices, judged on clips of persons that no model has met. Percent, with 95 % "
    "intervals over clips and seeds; a claim holds where the interval of the difference lies on its side of zero."
)
Points = Mapping[str, Mapping[str, Floats]]


def make_sheets(record: Record) -> dict[str, Sheet]:
    """Every table by name: `tally`, `claims`, and one for each grid that was run."""
    point, drawn = resampled(record.counts(), RESAMPLES, 0)
    claims = [claim for claim in (*paper_claims(), *own_claims()) if {claim.run, claim.against} <= point.keys()]
    verdicts = [judge(claim, point, drawn) for claim in claims]
    verdicts += [Verdict.from_json(entry) for entry in record.about.get("probed", [])]
    sheets = {"tally": _tally(verdicts), "claims": _claims(verdicts)}
    if candidates := record.about.get("candidates"):
        sheets["settings"] = candidates_sheet(candidates)
    for name in TABLES:
        grid = read_grid(name)
        if shown := [run for run in _runs(grid) if run[0] in point]:
            sheets[name] = _means(grid, shown, point)
    return sheets


def _runs(grid: Grid) -> list[tuple[str, tuple[float, ...]]]:
    """Name and the paper's figures of every row, the base first."""
    base = [("base", grid.base.paper)] if grid.base else []
    return [*base, *((run.name, run.paper) for run in grid.runs)]


def _means(grid: Grid, runs: Sequence[tuple[str, tuple[float, ...]]], point: Points) -> Sheet:
    """Mean and standard deviation over the seeds, with the paper's figure behind it."""
    header = ("run", *(MEASURES[column] for column in grid.columns))
    rows, records = [], []
    for name, paper in runs:
        cells = [name]
        record: dict[str, Any] = {"run": name}
        for place, column in enumerate(grid.columns):
            values = point[name][column]
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            beside = f" ({paper[place]:.1f})" if paper else ""
            cells.append(f"{values.mean():.1f} ± {deviation:.1f}{beside}")
            record |= {column: float(values.mean()), f"{column}_sd": deviation}
        rows.append(tuple(cells))
        records.append(record)
    return Sheet(grid.title, header, tuple(rows), tuple(records))


def candidates_sheet(found: Sequence[Mapping[str, Any]]) -> Sheet:
    """What was tried on the validation clips."""
    columns = [name for name in found[0] if name in MEASURES]
    rows = tuple((one["run"], *(f"{one[name]:.1f}" for name in (*columns, "mean"))) for one in found)
    header = ("run", *(MEASURES[name] for name in columns), "mean of the first three")
    return Sheet("Settings tried on the validation clips", header, rows, tuple(found))


def _claims(verdicts: Sequence[Verdict]) -> Sheet:
    header = ("the paper's claim", "from", "in", "paper", "found", "difference", "by seed", "verdict")
    rows, records = [], []
    for found in verdicts:
        claim = found.claim
        places = 2 if claim.measure.startswith("shift") else 1
        span = f"{found.difference:+.{places}f} [{found.low:+.{places}f}, {found.high:+.{places}f}]"
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


def write_page(path: Path, sheets: Mapping[str, Sheet]) -> Path:
    """Write every table as one HTML page."""
    page = page_environment().get_template("sheets.html.jinja")
    content = page.render(
        over="Proof", title="What holds of the paper, where every cue is known", lede=LEDE,
        sheets=list(sheets.values()), pictures=[], version=__version__,
    )  # fmt: skip
    write_atomic(path, content)
    return path


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Put blocks between the marks `<!-- NAME -->` and `<!-- end -->` of a page.

    Raises:
        DataError: The page has a mark of an unknown name.
    """

    def block(found: re.Match[str]) -> str:
        name = found[1]
        if name not in blocks:
            raise DataError(f"The page has a place for {name}, which there is no result of; run that part first.")
        return f"<!-- {name} -->\n{blocks[name]}<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main(
    results: Annotated[Path, typer.Argument(help="Raw results, as `avem sweep proof` writes them.")],
    page: Annotated[Path, typer.Argument(help="Markdown page whose tables are made again.")],
) -> None:
    """Make the tables of a page again from raw results."""
    blocks = {name: sheet.form("markdown") for name, sheet in make_sheets(Record.read(results)).items()}
    write_atomic(page, fill(page.read_text(encoding="utf-8"), blocks))


if __name__ == "__main__":
    typer.run(main)
