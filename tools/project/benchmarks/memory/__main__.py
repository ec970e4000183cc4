"""The command: `python -m avem.tools.project.benchmarks.memory`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from avem.tools.project.benchmarks.measure import show
from avem.tools.project.benchmarks.memory.cases import CASES, config_of
from avem.tools.project.benchmarks.memory.kits import FAMILIES, make_kit
from avem.tools.project.benchmarks.memory.measure import measure

MIB = 1 << 20


def main(
    family: Annotated[
        list[str] | None, typer.Option(help=f"Repeat: {', '.join(FAMILIES)}.", show_default="all")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare the estimate of a run's memory with the second of its steps, in every family."""
    rows = []
    for name in family or FAMILIES:
        if name not in FAMILIES:
            raise typer.BadParameter(f"--family is {name}; choose one of {', '.join(FAMILIES)}.")
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(config_of(make_kit(name, Path(folder)), case, device))
            sizes = (found.estimate.total, found.peak)
            rows.append((name, case, *(f"{size / MIB:.2f}" for size in sizes), f"{100 * found.error:+.1f} %"))
    show(f"Memory of a step on {device}", ("family", "case", "estimate, MiB", "measured, MiB", "error"), rows)


if __name__ == "__main__":
    typer.run(main)
