"""`avem bench groups` and `avem bench sets`: tables over results that are already there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import NONE, BootstrapSeed, prints_table
from avem.guards.inputs import need_file, need_path


@prints_table()
def groups(
    results: Annotated[list[Path], typer.Argument(help="Results of `avem bench emorealm`: folders or result.json.")],
    by: Annotated[str, typer.Option(help="Field of the questions, or column of --groups: language, emotion, ...")],
    columns: Annotated[
        Path | None,
        typer.Option("--groups", help="CSV of clips with further columns, such as languages.csv.", show_default=NONE),
    ] = None,
    seed: BootstrapSeed = 0,
    *,
    form: str,
) -> None:
    """Score results by group.

    A group is a language, gender, source, emotion, or what any other column says.
    """
    for result in results:
        need_path(result, "RESULTS", "result")
    need_file(columns, "--groups", "file of clips")

    from avem.commands.tables import show_sheet
    from avem.evaluate.emorealm.groups import group_scores, group_sheet, read_clip_columns
    from avem.evaluate.emorealm.results import read_result
    from avem.evaluate.emorealm.statistics import same_questions

    clips = read_clip_columns(columns, (by,)) if columns else {}
    read = [read_result(result) for result in results]
    for other in read[1:]:
        same_questions(read[0].outcomes(), other.outcomes())
    show_sheet(group_sheet(read, by, [group_scores(result, by, clips, seed=seed) for result in read]), form)


@prints_table()
def sets(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `avem bench` wrote.")],
    headline: Annotated[
        str, typer.Option(help="likelihood or generation.", show_default="likelihood where it was run")
    ] = "",
    *,
    form: str,
) -> None:
    """Join results on several sets into one table.

    The sets are those of the paper's Table 2: DFEW, RAVDESS, MER2023 and EMER. The paper's rows are below.
    """
    for folder in folders:
        need_path(folder, "FOLDERS", "folder of results")

    from avem.commands.tables import show_sheet
    from avem.evaluate.comparison import table_2

    show_sheet(table_2(folders, headline), form)
