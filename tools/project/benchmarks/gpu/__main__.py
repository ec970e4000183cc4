"""The command: `python -m avem.tools.project.benchmarks.gpu`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from avem.errors import AvemError
from avem.tools.project.benchmarks.gpu.run import Options, benchmark
from avem.tools.project.benchmarks.gpu.shapes import SIZES


def main(
    minutes: Annotated[float, typer.Option(min=0.0, help="Time that the run may take.")] = 8.0,
    device: Annotated[str, typer.Option(help="cuda, cuda:1, cpu, or auto.")] = "cuda",
    shape: Annotated[str, typer.Option(help=f"Sizes: {' or '.join(SIZES)}.")] = "full",
    precision: Annotated[
        str | None, typer.Option(help="bf16 or float32.", show_default="bf16 on a GPU, else float32")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option(help="Checkpoint activations; without it, where the estimate does not fit the device.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for results.md and results.json.")] = Path("gpu-results"),
) -> None:
    """Measure steps, attention and towers on a GPU, as much as the time allows, and write the tables."""
    try:
        results = benchmark(Options(minutes, device, shape, precision, checkpointing, out))
    except AvemError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from error
    sys.stdout.write(results.markdown())
    if results.failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
