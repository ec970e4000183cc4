"""`avem report`: bench results and training runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import NONE, BootstrapSeed
from avem.guards.inputs import need_path
from avem.guards.output_kinds import PAGE
from avem.guards.outputs import file_target
from avem.text.lists import counted
from avem.text.terminal import show


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Bench results, of which the first is compared with the others, and runs; or folders that hold some."
        ),
    ],
    run: Annotated[
        list[Path] | None,
        typer.Option(help="Run, or folder of runs, to show next to the results; may be repeated.", show_default=NONE),
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the clips, or the one around it; for pictures.", show_default="as recorded in the results"
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default="of the questions")] = None,
    pictures: Annotated[int, typer.Option(help="Maximum number of clips with pictures.", min=0)] = 60,
    paper: Annotated[bool, typer.Option(help="Show the paper's figures for comparison.")] = True,
    seed: BootstrapSeed = 0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("./report.html"),
) -> None:
    """Write one HTML page about bench results and training runs.

    A folder that is neither is searched for them. Of the results that it holds, the oldest is compared with the others.
    """
    for path in paths:
        need_path(path, "PATHS", "bench result or run")
    for path in run or ():
        need_path(path, "--run", "run")
    need_path(media, "--media", "folder of clips")
    file_target(out, PAGE, reads=[*paths, *(run or ())])

    from avem.evaluate import write_report
    from avem.evaluate.report.finding import find_reported, read_results
    from avem.evaluate.report.runs import write_run_report

    found = find_reported(paths, run or ())
    if results := read_results(found.results):
        page = write_report(
            out, results, found.runs, media, title=title or "", pictures=pictures, paper=paper, seed=seed
        )
    else:
        page = write_run_report(out, found.runs, title=title or "Training")
    if len(found.results) + len(found.runs) > len(paths) + len(run or ()):
        show(f"Found {counted(len(found.results), 'bench result')} and {counted(len(found.runs), 'run')}.")
    show(f"The report is {page}.")
