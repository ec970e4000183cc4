"""`avem recipe`: the commands that make a model which was not released, printed or run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import NONE, SetOption
from avem.guards.output_kinds import RECIPE
from avem.guards.outputs import folder_target
from avem.starts import LOCAL_BASE
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.tools.recipe.costs import Cost
    from avem.tools.recipe.steps import Step

recipe_app = typer.Typer(no_args_is_help=True, help="Print or run the commands that make an unreleased model.")


class SftPreset(StrEnum):
    """Settings of instruction tuning."""

    FULL = "avere-sft"
    LORA = "avere-sft-lora"
    PLAIN = "sft"


@recipe_app.callback()
def recipe() -> None:
    """Print or run the commands that make an unreleased model."""


@recipe_app.command("avere-base")
def avere_base(
    run: Annotated[bool, typer.Option("--run", help="Run the commands instead of printing them.")] = False,
    start: Annotated[
        str, typer.Option(help="Model to start from: a folder or a hub id.")
    ] = "LanguageBind/Video-LLaVA-7B",
    speech: Annotated[Path, typer.Option(help="Recordings of speech: a folder with a clips.csv.")] = Path("./speech"),
    transcripts: Annotated[
        Path, typer.Option(help="Their transcripts: JSON Lines with clip_id and transcript.")
    ] = Path("./speech.jsonl"),
    clips: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled dataset to write about and tune on; may be repeated.", show_default="mafw, mer2025"
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model behind --endpoint that writes instruction rows.", show_default=NONE)
    ] = "",
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address of --model.")] = "http://localhost:8000/v1",
    instructions: Annotated[
        list[Path] | None,
        typer.Option(help="Instruction rows that are there already; may be repeated.", show_default=NONE),
    ] = None,
    merr: Annotated[
        list[Path] | None, typer.Option(help="JSON file of MERR; may be repeated.", show_default=NONE)
    ] = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(help="Benchmark whose clips are not trained on; may be repeated.", show_default=NONE),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for stores, rows and runs.")] = Path("./avere-base"),
    base: Annotated[Path, typer.Option(help="Folder for the model that is made.")] = Path(LOCAL_BASE),
    sft_preset: Annotated[
        SftPreset, typer.Option(help="Settings of instruction tuning: all weights, LoRA, or your own.")
    ] = SftPreset.FULL,
    video_encoder: Annotated[
        str | None, typer.Option(help="Video encoder of `avem extract`.", show_default="its default")
    ] = None,
    audio_encoder: Annotated[
        str | None, typer.Option(help="Audio encoder of `avem extract`.", show_default="its default")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of clips per dataset to write about.", min=1, show_default="all")
    ] = None,
    settings: SetOption = None,
    projector_settings: Annotated[
        list[str] | None,
        typer.Option("--set-projector", help="As --set, for the audio projector alone.", show_default=NONE),
    ] = None,
    sft_settings: Annotated[
        list[str] | None,
        typer.Option("--set-sft", help="As --set, for instruction tuning alone.", show_default=NONE),
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs/--no-costs", help="Also print what each command costs, with memory estimates.")
    ] = True,
) -> None:
    """Make AVERE's base, which was not released.

    Starts from Video-LLaVA, trains an audio projector on speech, and tunes on instruction rows (D.2).
    Run the same command again to resume a run that was stopped.
    """
    from avem.tools.recipe.steps import BaseOptions, base_steps

    options = BaseOptions(
        out=out,
        base=base,
        start=start,
        speech=speech,
        transcripts=transcripts,
        clips=tuple(clips) if clips else BaseOptions.clips,
        instructions=tuple(instructions or ()),
        merr=tuple(merr or ()),
        model=model,
        endpoint=endpoint,
        benchmarks=tuple(benchmark or ()),
        video_encoder=video_encoder,
        audio_encoder=audio_encoder,
        sft_preset=sft_preset.value,
        settings=tuple(settings or ()),
        projector_settings=tuple(projector_settings or ()),
        sft_settings=tuple(sft_settings or ()),
        limit=limit,
    )
    steps = base_steps(options)
    if run:
        roots = [need.path for step in steps for need in step.needs]
        folder_target(out, RECIPE, roots=roots)

        from avem.tools.recipe.run import run_steps

        run_steps(steps, out, show, roots)
        show(f"The base is in {base}; `avem train` starts from it if it is ./base, or with --model.")
        return
    found: dict[str, Cost] = {}
    if costs:
        from avem.tools.recipe.costs import step_costs

        found = step_costs(steps, options)
    for number, step in enumerate(steps, start=1):
        _show_step(number, step, found.get(step.name))
    show("Nothing was run; add --run. Time is not estimated, since none of this was run at full size.")


def _show_step(number: int, step: Step, cost: Cost | None) -> None:
    """A step's title, needs, costs and command."""
    from avem.locate import look_up

    show(f"{number}. {step.title}")
    if step.lacks:
        show(f"   needs {step.lacks}")
    for need in step.needs:
        state = "there" if need.there else f"not there: {need.source}"
        show(f"   needs {need.what}: {need.path} ({state})")
    for name, what in step.models:
        found = look_up(name, ask_hub=False)
        state = "on this machine" if found.path and not found.problem else f"not here: `hf download {name}`"
        show(f"   needs the {what}: {name} ({state})")
    for line in cost.lines if cost else ():
        show(f"   {line}")
    show(f"   {step.line}")
