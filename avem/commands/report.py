"""`avem report`: results and runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[list[Path], typer.Argument(help="Bench results; the first is what others are compared with.")],
    run: Annotated[list[Path] | None, typer.Option(help="Run directory to draw; may be repeated.")] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of the clips, for pictures.")] = None,
    title: Annotated[str, typer.Option(help="What the page is called.")] = "EmoReAlM",
    pictures: Annotated[int, typer.Option(help="How many clips get pictures.", min=0)] = 60,
    paper: Annotated[bool, typer.Option(help="Set the paper's figures beside.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("./report.html"),
) -> None:
    """Write one self-contained HTML page on bench results."""
    from avem.evaluate.report import write_report

    page = write_report(out, results, run or (), media, title=title, pictures=pictures, paper=paper, seed=seed)
    typer.echo(f"The report is {page}.")
