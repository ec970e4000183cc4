"""`avem train`: AVEm-DPO, its ablations and baselines, and supervised training, from a feature store."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import DEFAULT_QUESTIONS, NONE, ConfigOption, ReadCacheOption
from avem.starts import DEFAULT_BASE
from avem.text.sizes import size_text
from avem.text.terminal import show, show_table

if TYPE_CHECKING:
    from avem.train.packing.epoch import PlanSummary
    from avem.train.run.memory import MemoryEstimate
    from avem.train.settings.config import RunConfig


GIB = 1 << 30


class TrainingStage(StrEnum):
    """Kinds of training."""

    PREFERENCE = "preference"
    SFT = "sft"
    PROJECTOR = "projector"


def train(
    cache: Annotated[Path | None, typer.Option(help="The feature store.", show_default="./cache")] = None,
    read_cache: ReadCacheOption = None,
    prefs: Annotated[
        Path | None, typer.Option(help="File of preference rows.", show_default="./preferences.jsonl")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="File of instruction rows, for the stages sft and projector.", show_default="./instructions.jsonl"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model to start from: a folder or a hub id.", show_default=DEFAULT_BASE),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run directory.", show_default="./runs/avem-dpo, ./runs/sft or ./runs/projector, by the stage"
        ),
    ] = None,
    stage: Annotated[TrainingStage, typer.Option(help="Kind of training.")] = TrainingStage.PREFERENCE,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Named settings: paper, no-pmp, no-erp, no-tpd, naive-dpo, vista-dpo, ...",
            show_default="paper, sft or projector, by the stage",
        ),
    ] = None,
    config: ConfigOption = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change one setting, as epochs=3; may be repeated. --settings lists them.",
            show_default=NONE,
        ),
    ] = None,
    list_settings: Annotated[
        bool,
        typer.Option("--settings", help="List the settings of --stage with their defaults and meaning, and exit."),
    ] = False,
    pairing: Annotated[
        str | None,
        typer.Option(
            help="Which rows share a step: mutual, grouped or independent.",
            show_default="mutual for preference, grouped for sft and projector",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Resume an interrupted run in --out, or stop with an error if there is one.",
            show_default="resume",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the memory it needs, and exit; reads no weights.")
    ] = False,
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=0.1, help="For --dry-run: GiB of GPU memory to plan for.", show_default="this machine's"),
    ] = None,
) -> None:
    """Train a model from a feature store.

    Run the same command again to resume a run that was stopped.
    """
    if list_settings:
        show_settings(stage.value)
        return
    from avem.guards.inputs import need_file, need_model, need_store
    from avem.guards.output_kinds import RUN
    from avem.guards.outputs import folder_target
    from avem.train.run.directory import RunDirectory, run_sources
    from avem.train.stages import check_default_base, preview_stage, run_stage, stage_config

    given = {
        "cache": cache,
        "prefs": prefs,
        "data": data,
        "model": model,
        "out": out,
        "pairing": pairing,
        "resume": resume,
    }
    settings = stage_config(stage.value, given, preset_name=preset, file=config, overrides=overrides or ())
    for option, path in (("--prefs", getattr(settings, "prefs", None)), ("--data", getattr(settings, "data", None))):
        need_file(path, option)
    need_store(settings.cache)
    need_model(settings.model)
    check_default_base(settings.cache, settings.model)
    if dry_run:
        show_plan(preview_stage(settings), gpu_memory, settings.learning_rate)
        return
    RunDirectory(settings.out).check(settings)
    folder_target(settings.out, RUN, reads=run_sources(settings))
    show_outcome(run_stage(settings), settings)


def show_settings(stage: str) -> None:
    """Print every setting of a stage: its default there, the values it takes, and what it means."""
    from avem.text.tables import Table
    from avem.train.settings.described import described
    from avem.train.stages import STAGES

    defaults = STAGES[stage]
    preset = {name: str(value).lower() for name, value in defaults.presets[defaults.preset].items()}
    rows = [
        (each.name, preset.get(each.name, each.default), each.takes, each.meaning) for each in described(defaults.kind)
    ]
    show_table(Table.of(("setting", "default", "takes", "meaning"), rows, f"Settings of --stage {stage}"))


def show_outcome(run: Path, settings: RunConfig) -> None:
    """Print what a finished run did, where its model is, and the command that usually follows."""
    from avem.commands.options import command_line
    from avem.train.run.directory import RunDirectory
    from avem.train.run.outcome import run_outcome

    directory = RunDirectory(run)
    if said := run_outcome(directory.metrics):
        show(said)
    show(f"The trained model is in {directory.final}.")
    cache = ("--cache", settings.cache) if settings.cache != Path("./cache") else ()
    if settings.tune == "none":  # projectors alone: the language model has yet to learn to use them
        show(f"Next: {command_line('avem train --stage sft', '--model', directory.final, *cache)}")
        return
    compare = ("--compare", settings.model)
    asked = () if DEFAULT_QUESTIONS.is_file() else ("--questions", "QUESTIONS.json")
    show(f"Next: {command_line('avem bench emorealm', '--model', directory.final, *compare, *cache, *asked)}")
    show(f"      {command_line('avem report', run)}")


def show_plan(summary: PlanSummary, gpu_memory: float | None = None, learning_rate: float | None = None) -> None:
    """Print the size of a run and the memory it needs.

    Args:
        summary: The run's plan.
        gpu_memory: GiB of GPU memory to plan for; None for this machine's device.
        learning_rate: The run's, to say where it can hardly change the model; None says nothing of that.
    """
    show(f"rows, all epochs  {summary.rows:>14,}")
    show(f"optimiser steps   {summary.steps:>14,}")
    show(f"micro-batches     {summary.batches:>14,}")
    show(f"media prefixes    {summary.prefixes:>14,}")
    show(f"tokens            {summary.tokens:>14,}")
    show(f"tokens unshared   {summary.plain_tokens:>14,}")
    show(f"sharing saves     {summary.saving:>13.1f}x")
    if summary.memory is not None:
        capacity = summary.memory.capacity if gpu_memory is None else int(gpu_memory * GIB)
        _show_memory(replace(summary.memory, capacity=capacity))
    if learning_rate is not None:
        from avem.train.run.outcome import faint_hint

        if hint := faint_hint(summary.steps, learning_rate):
            show(hint)


def _show_memory(memory: MemoryEstimate) -> None:
    show(f"parameters        {memory.parameters:>14,}, {memory.trained:,} of them trained")
    show("memory on each device:")
    for part in ("weights", "gradients", "optimiser", "activations", "features", "total"):
        show(f"  {part:<16}{size_text(getattr(memory, part), binary=True):>12}")
    fits = "fits" if memory.fits else "does not fit (lower tokens_per_batch, or set gradient_checkpointing=true)"
    show(f"  {fits} in {size_text(memory.capacity, binary=True)} with a tenth left free")
