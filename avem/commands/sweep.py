"""`avem sweep`: train and evaluate a grid of preference runs on one store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from avem.commands.options import ALL, NONE, PresetOption, SetOption, Style, StyleOption
from avem.errors import SettingError
from avem.guards.inputs import need_file, need_model, need_store
from avem.guards.output_kinds import SWEEP
from avem.guards.outputs import folder_target
from avem.starts import DEFAULT_BASE, default_model
from avem.text.terminal import show, show_table

PROOF = ("proof", "proof-settings", "proof-smollm2", "settings", "settings-smollm2", "storage")
"""Presets and grids of `avem proof run`, which has their settings and makes the two stores that `storage` compares."""


def sweep(
    grid: Annotated[
        str, typer.Argument(help="table2, table3, table5, table17, table18, fig11, or a TOML file with your own grid.")
    ],
    cache: Annotated[Path, typer.Option(help="The feature store.")] = Path("./cache"),
    prefs: Annotated[Path, typer.Option(help="File of preference rows.")] = Path("./preferences.jsonl"),
    model: Annotated[
        str | None,
        typer.Option(
            help="Model that every run starts from; {seed} in it stands for the run's seed.", show_default=DEFAULT_BASE
        ),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="EmoReAlM benchmark file to evaluate every run on.", show_default=NONE)
    ] = None,
    subtasks: Annotated[
        Path | None,
        typer.Option(help="Subtasks of the stress questions, from `avem emorealm subtasks`.", show_default=NONE),
    ] = None,
    style: StyleOption = Style.LETTERS,
    preset: PresetOption = None,
    overrides: SetOption = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Random seed of the runs; repeat for several.", show_default="the grid's")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Do only the run of this name; may be repeated.", show_default=ALL)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Number of runs at a time, each in its own process.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the table and the figure.")] = Path("./sweep"),
) -> None:
    """Train and evaluate every run of a grid.

    Writes a table, the raw results and a figure.

    Run the same command again to resume a sweep that was stopped.
    """
    if grid in PROOF:
        raise SettingError(f"{grid} is not a grid of `avem sweep`; use `avem proof run`.")

    from avem.tools.sweep.grid import for_family, label_start, read_grid
    from avem.train.stages import check_default_base

    settings = run_settings(preset, overrides)
    read = read_grid(grid)
    need_store(cache)
    need_file(prefs, "--prefs")
    need_file(questions, "--questions", "benchmark file")
    need_file(subtasks, "--subtasks", "file of subtasks")
    if model is None:
        model = default_model()
        check_default_base(cache, model)
    if "{" not in model:  # otherwise each seed has its own
        need_model(model)
    folder_target(out, SWEEP, reads=[cache, prefs, questions, subtasks, model])
    start = model.replace("{seed}", str((seed or read.seeds)[0]))
    if read.blocks:
        from avem.train.checkpoints.load import family_of

        read = for_family(read, family_of(start))
    read = label_start(read, start)

    from avem.tools.sweep.outcome import write_outcome
    from avem.tools.sweep.run import SweepOptions, run_sweep

    options = SweepOptions(
        cache=cache,
        prefs=prefs,
        model=model,
        out=out,
        questions=questions,
        subtasks=subtasks,
        style=style.value,
        seeds=tuple(dict.fromkeys(seed or ())),
        settings=settings,
        only=tuple(only or ()),
        device=device,
        workers=workers,
    )
    sheet = write_outcome(read, run_sweep(read, options), out)
    show_table(sheet.table())
    show(f"The table, the raw results and the figure are in {out / read.name}.md, .json and .svg.")


def run_settings(preset: str | None, overrides: Sequence[str] | None) -> dict[str, Any]:
    """Settings of every preference run: those of a preset, then the overrides.

    Raises:
        SettingError: The preset is unknown, or an override is not option=value.
    """
    from avem.train.settings.presets import PREFERENCE_PRESETS
    from avem.train.settings.presets import preset as preset_of
    from avem.train.settings.sources import parse_override

    chosen = preset_of(PREFERENCE_PRESETS, preset) if preset else {}
    return {**chosen, **dict(map(parse_override, overrides or ()))}
