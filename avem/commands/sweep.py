"""`avem sweep`: a grid of preference runs on one store, judged alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sweep(
    grid: Annotated[str, typer.Argument(help="table5, table17, table18, fig11, or a TOML file of one's own.")],
    cache: Annotated[Path, typer.Option(help="Feature store.")] = Path("./cache"),
    prefs: Annotated[Path, typer.Option(help="Preference rows.")] = Path("./preferences.jsonl"),
    model: Annotated[str, typer.Option(help="Model that every run starts from.")] = "chaubeyG/AVERE-7B",
    questions: Annotated[Path | None, typer.Option(help="EmoReAlM's questions, to judge the runs by.")] = None,
    style: Annotated[str, typer.Option(help="letters or cloze, as for `avem bench emorealm`.")] = "letters",
    preset: Annotated[str | None, typer.Option(help="Settings of every run, as for `avem train`.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="One setting of every run as option=value; may be repeated.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="In place of the grid's; may be repeated.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a run to do alone; may be repeated.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Runs, table and figure; a sweep goes on with what is there.")] = Path(
        "./sweep"
    ),
) -> None:
    """Train every run of a grid, judge them, and draw table and figure; the same command goes on with what is left."""
    from rich.console import Console

    from avem.tools.sweep.grid import read_grid
    from avem.tools.sweep.outcome import write_outcome
    from avem.tools.sweep.run import SweepOptions, run_sweep
    from avem.train.options import parse_override
    from avem.train.presets import PREFERENCE_PRESETS
    from avem.train.presets import preset as preset_of

    chosen = preset_of(PREFERENCE_PRESETS, preset) if preset else {}
    read = read_grid(grid)
    options = SweepOptions(
        cache=cache, prefs=prefs, model=model, out=out, questions=questions, style=style, seeds=tuple(seed or ()),
        settings={**chosen, **dict(map(parse_override, overrides or ()))}, only=tuple(only or ()), device=device,
    )  # fmt: skip
    sheet = write_outcome(read, run_sweep(read, options), out)
    Console().print(sheet.to_rich())
    typer.echo(f"{out / read.name}.md, .json and .svg hold the table, the raw results and the figure.")
