"""`avem report`: bench results and training runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import NONE, BootstrapSeed
from avem.guards.inputs import need_path
from avem.guards.output_kinds import PAGE
from avem.guards.outputs import file_target
from avem.text.terminal import show


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Bench results, of which the first is compared with the others, and run directories of `avem train`."
        ),
    ],
    run: Annotated[
        list[Path] | None,
        typer.Option(help="Run directory to show next to the results; may be repeated.", show_default=NONE),
    ] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of the clips, for pictures.", show_default=NONE)] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default="EmoReAlM, or Training")] = None,
    pictures: Annotated[int, typer.Option(help="Maximum number of clips with pictures.", min=0)] = 60,
    paper: Annotated[bool, typer.Option(help="Show the paper's figures for comparison.")] = True,
    seed: BootstrapSeed = 0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("./report.html"),
) -> None:
    """Write one HTML page about bench results and training runs."""
    for path in paths:
        need_path(path, "PATHS", "bench result or run")
    for path in run or ():
        need_path(path, "--run", "run")
    need_path(media, "--media", "folder of clips")
    file_target(out, PAGE, reads=[*paths, *(run or ())])

    from avem.evaluate import write_report
    from avem.evaluate.report.runs import is_run, write_run_report

    runs = [*(path for path in paths if is_run(path)), *(run or ())]
    results = [path for path in paths if not is_run(path)]
    if results:
        title = title or "EmoReAlM"
        page = write_report(out, results, runs, media, title=title, pictures=pictures, paper=paper, seed=seed)
    else:
        page = write_run_report(out, runs, title=title or "Training")
    show(f"The report is {page}.")
