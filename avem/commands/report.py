"""`avem report`: results, training runs, or the proof on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import given
from avem.guards.inputs import need_path
from avem.guards.output_kinds import PAGE
from avem.guards.outputs import file_target
from avem.text.terminal import show

OTHER_PAGES = ("run", "media", "title", "pictures", "paper", "seed")
"""Options of the pages on results and runs, which that on the proof has not."""


def report(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Bench results, the first being what others are compared with, run directories of `avem train`, or "
            "the raw results of `avem sweep proof`."
        ),
    ],
    run: Annotated[
        list[Path] | None, typer.Option(help="Run directory to draw beside results; may be repeated.")
    ] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of the clips, for pictures.")] = None,
    title: Annotated[
        str | None, typer.Option(help="What the page is called. [default: EmoReAlM, or Training]", show_default=False)
    ] = None,
    pictures: Annotated[int, typer.Option(help="How many clips get pictures.", min=0)] = 60,
    paper: Annotated[bool, typer.Option(help="Set the paper's figures beside.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("./report.html"),
) -> None:
    """Write one self-contained HTML page: on bench results, on training runs, or on the proof."""
    for path in paths:
        need_path(path, "PATHS", "bench result or run")
    for path in run or ():
        need_path(path, "--run", "run")
    need_path(media, "--media", "folder of clips")
    file_target(out, PAGE, reads=[*paths, *(run or ())])

    from avem.evaluate import write_report
    from avem.evaluate.report.runs import is_run, write_run_report
    from avem.tools.project.proof.record import Record, is_record

    if len(paths) == 1 and is_record(paths[0]):
        from avem.errors import SettingError
        from avem.tools.project.proof.page import write_page

        if extra := given(context, OTHER_PAGES):
            raise SettingError(f"The page on the proof is what its results are; leave --{extra[0]} out.")
        write_page(out, Record.read(paths[0]))
        show(f"The report is {out}.")
        return
    runs = [*(path for path in paths if is_run(path)), *(run or ())]
    results = [path for path in paths if not is_run(path)]
    if results:
        title = title or "EmoReAlM"
        page = write_report(out, results, runs, media, title=title, pictures=pictures, paper=paper, seed=seed)
    else:
        page = write_run_report(out, runs, title=title or "Training")
    show(f"The report is {page}.")
