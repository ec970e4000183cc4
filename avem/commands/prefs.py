"""`avem prefs`: preference data made, checked, converted and judged by people."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

prefs_app = typer.Typer(no_args_is_help=True, help="Make and check preference data.")

ROWS_FILE = Path("./preferences.jsonl")


class Form(StrEnum):
    """Files that preference rows are written as."""

    ROWS = "rows"
    REFERENCE = "reference"
    TRL = "trl"
    LLAMA_FACTORY = "llama-factory"


@prefs_app.callback()
def prefs() -> None:
    """Make and check preference data."""


@prefs_app.command()
def validate(
    rows: Annotated[Path, typer.Argument(help="Preference rows: JSON Lines, or the reference's JSON.")] = ROWS_FILE,
    benchmark: Annotated[
        list[Path] | None, typer.Option(help="A benchmark that must share no clip with the rows; may be repeated.")
    ] = None,
    cache: Annotated[
        list[Path] | None, typer.Option(help="A feature store that knows the clips; may be repeated.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sample that the text-only classifier sees.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Report every fault with its line, and what a model could tell the answers apart by; exit status 2 on errors."""
    from avem.commands.prefs_tables import show_report
    from avem.errors import DataError
    from avem.tools.prefs.validate import validate as validate_rows

    report = validate_rows(rows, benchmark or (), cache or (), seed)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        show_report(report)
    if bad := report.errors or (strict and len(report.faults)):
        raise DataError(f"{rows} has {bad} faults that are to be mended before training.")


@prefs_app.command()
def convert(
    rows: Annotated[Path, typer.Argument(help="Preference rows: JSON Lines, or the reference's JSON.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    to: Annotated[Form, typer.Option(help="The form to write.")] = Form.ROWS,
    media: Annotated[str, typer.Option(help="How a clip's file is called, for forms that name files.")] = "{clip}.mp4",
) -> None:
    """Write preference rows in another form: the reference's JSON, TRL's or LLaMA-Factory's."""
    from avem.tools.prefs.formats import read_rows, write_rows

    read = read_rows(rows)
    for path in write_rows(read, out, to.value, lambda clip: media.replace("{clip}", clip)):
        typer.echo(path)
