"""`avem sweep`: a grid of preference runs on one store, judged alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avem.commands.options import given
from avem.guards.inputs import need_file, need_model, need_store
from avem.guards.output_kinds import PROOF, SWEEP
from avem.guards.outputs import folder_target
from avem.text.terminal import show, show_table

if TYPE_CHECKING:
    from avem.evaluate.sheets import Sheet

PROOFS = ("proof", "proof-settings", "proof-smollm2")
"""Names that are not of a grid."""
STORAGE = "storage"
"""A grid whose rows differ in their store alone."""
MADE = ("cache", "prefs", "model", "questions", "style", "device")
"""Options that say what a grid stands on; the proof makes all of it."""


def sweep(
    context: typer.Context,
    grid: Annotated[
        str,
        typer.Argument(
            help="table3, table5, table17, table18, fig11, a TOML file of one's own, or proof (also proof-settings, "
            "proof-smollm2)."
        ),
    ],
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
    workers: Annotated[int, typer.Option(help="Runs at a time, each in a process of its own.", min=1)] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Runs, table and figure, ./sweep or ./proof; goes on with what is there.")
    ] = None,
) -> None:
    """Train every run of a grid, judge them, and draw table and figure; the same command goes on with what is left.

    `avem sweep proof` needs nothing: it draws its own corpus, trains its own bases, and judges the paper's claims.
    `proof-settings` tries the candidates for its settings on validation clips, `proof-smollm2` does Table 3's runs with
    released weights.
    """
    from avem.errors import SettingError
    from avem.tools.sweep.grid import read_grid
    from avem.train.settings.presets import PREFERENCE_PRESETS
    from avem.train.settings.presets import preset as preset_of
    from avem.train.settings.sources import parse_override

    seeds = tuple(dict.fromkeys(seed or ()))
    settings = {
        **(preset_of(PREFERENCE_PRESETS, preset) if preset else {}),
        **dict(map(parse_override, overrides or ())),
    }
    if grid in PROOFS:
        _refuse(context, grid)
        _prove(grid, out or Path("./proof"), seeds, tuple(only or ()), workers, settings)
        return
    if grid == STORAGE:
        raise SettingError("The grid storage compares two stores, which `avem sweep proof` makes; run that.")
    out = out or Path("./sweep")
    read = read_grid(grid)
    need_store(cache)
    need_file(prefs, "--prefs")
    need_file(questions, "--questions", "benchmark file")
    if "{" not in model:  # else each seed has its own
        need_model(model)
    folder_target(out, SWEEP, reads=[cache, prefs, questions, model])

    from avem.tools.sweep.outcome import write_outcome
    from avem.tools.sweep.run import SweepOptions, run_sweep

    options = SweepOptions(
        cache=cache,
        prefs=prefs,
        model=model,
        out=out,
        questions=questions,
        style=style,
        seeds=seeds,
        settings=settings,
        only=tuple(only or ()),
        device=device,
        workers=workers,
    )
    sheet = write_outcome(read, run_sweep(read, options), out)
    _show([sheet])
    show(f"{out / read.name}.md, .json and .svg hold the table, the raw results and the figure.")


def _refuse(context: typer.Context, which: str) -> None:
    """Refuse options that the proof would pass over."""
    from avem.errors import SettingError

    if passed_over := given(context, MADE):
        raise SettingError(
            f"avem sweep {which} makes its own corpus, features and bases; leave --{passed_over[0]} out."
        )


def _prove(
    which: str, out: Path, seeds: tuple[int, ...], only: tuple[str, ...], workers: int, settings: Mapping[str, Any]
) -> None:
    """Run the proof or some of its runs, choose its settings, or repeat its first table with released weights."""
    from avem.errors import SettingError

    folder_target(out, PROOF)

    from avem.tools.project.proof.run import ProofOptions, choose_settings, run_proof, run_released

    if only and which != "proof":
        raise SettingError(f"avem sweep {which} does all its runs; leave --only out.")
    if len(seeds) > 1 and which == "proof-settings":
        raise SettingError("avem sweep proof-settings tries its candidates with one seed; give one --seed.")
    options = ProofOptions(out=out, only=only, workers=workers, settings=settings)
    options = replace(options, seeds=seeds, further_seeds=()) if seeds else options
    if which == "proof-settings":
        _show([choose_settings(options)])
        return
    sheets = run_proof(options) if which == "proof" else run_released(options)
    _show(list(sheets.values()))
    stem = "smollm2" if which == "proof-smollm2" else "some" if only else "proof"
    show(f"{out / stem}.html holds the tables, {stem}.json every answer.")


def _show(sheets: Sequence[Sheet]) -> None:
    for sheet in sheets:
        show_table(sheet.to_rich())
