r"""The proof's tables and figures, as a page and as Markdown between the marks of `docs/proof.md`.

    python -m avem.tools.project.proof.page docs/proof.json docs/proof.md --data docs/proof-data --figures docs/images
    python -m avem.tools.project.proof.page docs/smollm2.json docs/proof.md --prefix smollm2 --data docs/proof-data
    python -m avem.tools.project.proof.page docs/proof-adapters.json docs/proof.md --prefix adapters \
        --beside docs/proof.json

make the tables of the page, and the figures and data files that it links, again from the raw results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from markupsafe import Markup

from avem import __version__
from avem.errors import AvemError, DataError
from avem.evaluate.page import page_environment
from avem.evaluate.sheets import Sheet
from avem.files import save_page, write_atomic
from avem.guards.output_kinds import FIGURE, FileKind
from avem.guards.outputs import file_target
from avem.reading import read_text
from avem.text.terminal import show
from avem.tools.project.proof.comparison import beside as compared
from avem.tools.project.proof.evaluation import Evaluation, evaluate_record
from avem.tools.project.proof.figure import draw_curves, draw_groups
from avem.tools.project.proof.results.record import Record
from avem.tools.project.proof.tables import grid_results, make_sheets
from avem.tools.project.proof.verdicts import LEVEL, SAME
from avem.tools.sweep.grid import read_grid
from avem.tools.sweep.outcome import draw

LEDE = (
    "Drawn faces and synthesised voices, evaluated on clips of persons that no model has seen. Percent, but for shifts "
    f"(nats) and rewards; differences with {LEVEL:.0%} intervals over seeds and clips, of the seeds that both runs "
    "have; means of runs with their standard deviation over seeds. A claim of more holds where the interval lies above "
    f"zero, one of less below, one of the same within {SAME:g} points, one of no more where it ends below them. One "
    "seed has no interval and gives no verdict."
)


def draw_figures(evaluation: Evaluation) -> dict[str, str]:
    """Every figure by name as SVG: one for each group of claims, `strengths` (Fig. 11 on the proof's ground), `curves`.

    A figure without results is left out.
    """
    grid = read_grid("strengths")
    results = grid_results(grid, evaluation.point)
    figures = {
        **draw_groups(evaluation.verdicts, evaluation.twins),
        "strengths": draw(grid, results) if results else "",
        "curves": draw_curves(evaluation.record.about.get("curves", [])),
    }
    return {name: svg for name, svg in figures.items() if svg}


def write_page(path: Path, record: Record) -> dict[str, Sheet]:
    """Write every table and figure of raw results as one HTML page, and return the tables by name."""
    evaluation = evaluate_record(record)
    sheets = make_sheets(evaluation)
    page = page_environment().get_template("sheets.html.jinja")
    content = page.render(
        over="Proof",
        title="What holds of the paper, where every cue is known",
        lede=LEDE,
        sheets=list(sheets.values()),
        pictures=list(map(Markup, draw_figures(evaluation).values())),
        version=__version__,
    )
    save_page(path, content)
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
    mark = re.escape(before)

    def block(found: re.Match[str]) -> str:
        name = found[1]
        if name not in blocks:
            raise DataError(f"The page needs {name}, which has no result yet; run that part first.")
        return f"<!-- {before}{name} -->\n{blocks[name]}<!-- end -->"

    return re.sub(rf"<!-- {mark}(?!end -->)(\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def _with_header(text: str) -> FileKind:
    """A CSV file whose first line is that of a table."""
    header = text.partition("\n")[0].strip()
    return FileKind("a table with these columns", lambda path: read_text(path).partition("\n")[0].strip() == header)


def _marks(blocks: Mapping[str, str], prefix: str) -> list[str]:
    """The marks that a page may have for these blocks."""
    return [f"<!-- {prefix} {name} -->" if prefix else f"<!-- {name} -->" for name in blocks]


def main(
    results: Annotated[Path, typer.Argument(help="Raw results, as `avem proof run` writes them.")],
    page: Annotated[Path, typer.Argument(help="Markdown page whose tables are made again.")],
    prefix: Annotated[str, typer.Option(help="What stands before the names in the marks of these results.")] = "",
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder for the figures that the page links, such as proof-table5.svg or PREFIX-table5.svg."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables that it links, such as proof-claims.csv or PREFIX-claims.csv."),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            help="Other raw results, for the table `beside`: claims that both decide, and those decided alike."
        ),
    ] = None,
) -> None:
    """Make the tables of a page, its figures and its data files again from raw results."""
    try:
        evaluation = evaluate_record(Record.read(results))
        sheets = make_sheets(evaluation)
        if beside is not None:
            sheets["beside"] = compared(evaluation, evaluate_record(Record.read(beside)))
        blocks = {name: sheet.form("markdown") for name, sheet in sheets.items()}
        text = read_text(page)
        filled = fill(text, blocks, prefix)
        if filled == text and not any(mark in text for mark in _marks(blocks, prefix)):
            raise DataError(f"{page} has no mark such as {_marks(blocks, prefix)[0]} for these results; add one.")
        stem = prefix or "proof"
        made: dict[Path, str] = {}
        if figures is not None:
            drawn = {f"{stem}-{name}.svg": svg for name, svg in draw_figures(evaluation).items()}
            made |= {
                file_target(figures / name, FIGURE, option="--figures"): svg
                for name, svg in drawn.items()
                if f"/{name})" in text
            }
        if data is not None:
            lines = {f"{stem}-{name}.csv": sheet.form("csv") for name, sheet in sheets.items() if sheet.records}
            made |= {
                file_target(data / name, _with_header(table), option="--data"): table
                for name, table in lines.items()
                if f"/{name})" in text
            }
        read = [results] if beside is None else [results, beside]
        target = file_target(page, FileKind("a page with marks", Path.is_file), reads=read, option="PAGE")
        for path, content in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
        write_atomic(target, filled)
    except AvemError as error:
        show(error, err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
