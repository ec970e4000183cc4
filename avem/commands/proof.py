"""`avem proof`: test the paper's claims on a corpus whose cues are all known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import ALL, NONE, PresetOption, SetOption
from avem.errors import SettingError
from avem.guards.inputs import need_file, need_path
from avem.guards.output_kinds import GROUND, PAGE, PROOF, FileKind
from avem.guards.outputs import file_target, folder_target
from avem.text.terminal import show, show_table

if TYPE_CHECKING:
    from avem.evaluate.sheets import Sheet

proof_app = typer.Typer(no_args_is_help=True, help="Test the paper's claims on a corpus whose cues are all known.")


class Answers(StrEnum):
    """Forms of the answers of preference rows, as `avem.tools.project.proof.ground.rows.FORMS` has them."""

    REASONS = "reasons"
    VERDICTS = "verdicts"
    BOTH = "both"


class Part(StrEnum):
    """Parts of the proof."""

    CLAIMS = "claims"
    SETTINGS = "settings"
    CURVES = "curves"
    SMOLLM2 = "smollm2"
    SMOLLM2_SETTINGS = "settings-smollm2"


@proof_app.command()
def run(
    part: Annotated[
        Part,
        typer.Option(
            help="claims: every table and claim; settings: compare candidate settings on validation clips; curves: "
            "vary what may limit the method, there too; smollm2: the runs of Table 3 from released weights; "
            "settings-smollm2: compare its candidate settings on validation clips."
        ),
    ] = Part.CLAIMS,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Random seed of the runs; repeat for several.", show_default="by the table"),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Do only the run of this name; may be repeated.", show_default=ALL)
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            help="Raw results of an earlier proof: its runs are not repeated, and the new ones are added.",
            show_default=NONE,
        ),
    ] = None,
    ground: Annotated[
        Path | None,
        typer.Option(
            help="Trained encoders and base of another proof, as `avem proof ground` writes them, to stand on the same "
            "ground.",
            show_default="train them here",
        ),
    ] = None,
    rows: Annotated[
        Answers,
        typer.Option(
            help="Answers of preference rows to questions about a cue: a verdict with its reason, the verdict alone, "
            "or a row of each."
        ),
    ] = Answers.REASONS,
    preset: PresetOption = None,
    overrides: SetOption = None,
    workers: Annotated[int, typer.Option(help="Number of runs at a time, each in its own process.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the corpus, the runs and the results.")] = Path("./proof"),
) -> None:
    """Make a corpus, train every model and test the claims.

    Needs no other data or weights, except for the parts with smollm2.

    Run the same command again to resume a run that was stopped.
    """
    from avem.commands.sweep import run_settings

    settings, seeds, names = run_settings(preset, overrides), tuple(dict.fromkeys(seed or ())), tuple(only or ())
    if names and part is not Part.CLAIMS:
        raise SettingError(f"avem proof run --part {part} does all its runs; leave --only out.")
    if known is not None and part is not Part.CLAIMS:
        raise SettingError(f"avem proof run --part {part} adds nothing to known results; leave --known out.")
    if len(seeds) > 1 and part is Part.CURVES:
        raise SettingError(f"avem proof run --part {part} makes its runs with one seed; give one --seed.")
    folder_target(out, PROOF, reads=[known, ground])
    need_path(ground, "--ground", "ground of a proof")
    if known is not None:
        need_file(known, "--known", "result file of the proof")

    from avem.tools.project.proof.plan import ROWS
    from avem.tools.project.proof.run import (
        ProofOptions,
        choose_released_settings,
        choose_settings,
        results_name,
        run_proof,
        run_released,
        trace_curves,
    )

    if rows is not Answers.REASONS and part is not Part.CLAIMS:
        raise SettingError(f"avem proof run --part {part} has rows of its own; leave --rows out.")
    options = ProofOptions(
        out=out,
        seeds=seeds,
        only=names,
        known=known,
        workers=workers,
        settings=settings,
        ground=ground,
        rows=replace(ROWS, form=rows.value),
    )
    trials = {
        Part.SETTINGS: choose_settings,
        Part.CURVES: trace_curves,
        Part.SMOLLM2_SETTINGS: choose_released_settings,
    }
    if part in trials:
        _show([trials[part](options)])
        return
    sheets = run_proof(options) if part is Part.CLAIMS else run_released(options)
    _show(list(sheets.values()))
    stem = results_name(options, released=part is Part.SMOLLM2)
    show(f"The tables are in {out / stem}.html, and every answer is in {stem}.json.")


@proof_app.command()
def ground(
    proof: Annotated[Path, typer.Argument(help="Folder of `avem proof run`.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Copy a proof's trained encoders and first base.

    `avem proof run --ground` stands on them on another machine.
    """
    need_path(proof, "PROOF", "folder of a proof")
    folder_target(out, GROUND, reads=[proof], option="OUT")

    from avem.tools.project.proof.ground.shared import share_ground

    show(f"The weights are in {share_ground(proof, out)}; use them with `avem proof run --ground {out}`.")


@proof_app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Raw results of `avem proof run`, such as proof/proof.json.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("./report.html"),
) -> None:
    """Write the page about the proof again from its raw results."""
    need_file(results, "RESULTS", "result file of the proof")
    file_target(out, PAGE, reads=[results])

    from avem.tools.project.proof.page import write_page
    from avem.tools.project.proof.results.record import Record

    write_page(out, Record.read(results))
    show(f"The report is {out}.")


@proof_app.command()
def join(
    results: Annotated[Path, typer.Argument(help="Raw results of `avem proof run`.")],
    others: Annotated[list[Path], typer.Argument(help="Raw results of other runs on the same ground.")],
    out: Annotated[Path, typer.Option(help="The raw results of all of them.")] = Path("./joined.json"),
) -> None:
    """Join raw results that were made in parts, or on several machines.

    The answers of their base show that they were made on the same ground. A run that two of them have is taken from the
    first.
    """
    need_file(results, "RESULTS", "result file of the proof")
    for path in others:
        need_file(path, "OTHERS", "result file of the proof")

    from avem.tools.project.proof.results.record import Record, is_record

    file_target(out, FileKind("results of the proof", is_record), reads=[results, *others])
    joined = Record.read(results)
    for path in others:
        joined = joined.joined(Record.read(path))
    joined.write(out)
    show(f"The results of {sum(map(len, joined.right.values()))} runs are in {out}.")


def _show(sheets: Sequence[Sheet]) -> None:
    for sheet in sheets:
        show_table(sheet.table())
