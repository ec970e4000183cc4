"""`avem proof`: test the paper's claims on a corpus whose cues are all known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import ALL, PresetOption, SetOption
from avem.errors import SettingError
from avem.guards.inputs import need_file
from avem.guards.output_kinds import PAGE, PROOF
from avem.guards.outputs import file_target, folder_target
from avem.text.terminal import show, show_table

if TYPE_CHECKING:
    from avem.evaluate.sheets import Sheet

proof_app = typer.Typer(no_args_is_help=True, help="Test the paper's claims on a corpus whose cues are all known.")


class Part(StrEnum):
    """Parts of the proof."""

    CLAIMS = "claims"
    SETTINGS = "settings"
    SMOLLM2 = "smollm2"


@proof_app.command()
def run(
    part: Annotated[
        Part,
        typer.Option(
            help="claims: every table and claim; settings: compare candidate settings on validation clips; smollm2: "
            "the runs of Table 3 from released weights."
        ),
    ] = Part.CLAIMS,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Random seed of the runs; repeat for several.", show_default="0 to 4, by the table"),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Do only the run of this name; may be repeated.", show_default=ALL)
    ] = None,
    preset: PresetOption = None,
    overrides: SetOption = None,
    workers: Annotated[int, typer.Option(help="Number of runs at a time, each in its own process.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the corpus, the runs and the results.")] = Path("./proof"),
) -> None:
    """Make a corpus, train every model and test the claims.

    Needs no other data or weights, except for --part smollm2.

    Run the same command again to resume a run that was stopped.
    """
    from avem.commands.sweep import run_settings

    settings, seeds, names = run_settings(preset, overrides), tuple(dict.fromkeys(seed or ())), tuple(only or ())
    if names and part is not Part.CLAIMS:
        raise SettingError(f"avem proof run --part {part} does all its runs; leave --only out.")
    if len(seeds) > 1 and part is Part.SETTINGS:
        raise SettingError("avem proof run --part settings compares its candidates with one seed; give one --seed.")
    folder_target(out, PROOF)

    from avem.tools.project.proof.run import ProofOptions, choose_settings, run_proof, run_released

    options = ProofOptions(out=out, only=names, workers=workers, settings=settings)
    options = replace(options, seeds=seeds, further_seeds=()) if seeds else options
    if part is Part.SETTINGS:
        _show([choose_settings(options)])
        return
    sheets = run_proof(options) if part is Part.CLAIMS else run_released(options)
    _show(list(sheets.values()))
    stem = "smollm2" if part is Part.SMOLLM2 else "some" if names else "proof"
    show(f"The tables are in {out / stem}.html, and every answer is in {stem}.json.")


@proof_app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Raw results of `avem proof run`, such as proof/proof.json.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("./report.html"),
) -> None:
    """Write the page about the proof again from its raw results."""
    need_file(results, "RESULTS", "results of the proof")
    file_target(out, PAGE, reads=[results])

    from avem.tools.project.proof.page import write_page
    from avem.tools.project.proof.results.record import Record

    write_page(out, Record.read(results))
    show(f"The report is {out}.")


def _show(sheets: Sequence[Sheet]) -> None:
    for sheet in sheets:
        show_table(sheet.table())
