"""`avem doctor`: what this machine can do for avem."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import Device
from avem.guards.inputs import need_store
from avem.text.terminal import show, show_block

INCOMPLETE = 3


class DoctorFormat(StrEnum):
    """How the findings are printed."""

    TEXT = "text"
    JSON = "json"


def doctor(
    cache: Annotated[
        Path | None, typer.Option(help="Measure how fast this feature store is read.", show_default="a temporary one")
    ] = None,
    device: Device = "auto",
    form: Annotated[
        DoctorFormat, typer.Option("--format", help="text, or json for a bug report.", show_default="text")
    ] = DoctorFormat.TEXT,
) -> None:
    """Check what this machine can do.

    Looks at versions and GPUs, tries kernels, reads a store and does one training step, in about a minute. Each line
    says what was found, and the end says what to do. The exit status is 3 if something that avem needs does not work.
    """
    if cache is not None:
        need_store(cache)

    from avem.tools.doctor import DoctorOptions, examine

    as_json = form == DoctorFormat.JSON
    if not as_json:
        show("Checking this computer, which takes up to a few minutes.", err=True)
    report = examine(DoctorOptions(device, cache))
    show_block(json.dumps(report.to_json(), indent=1) if as_json else "\n".join(report.lines()))
    if report.problems:
        raise typer.Exit(INCOMPLETE)
