"""`avem probe`: measure which modality a model's answers depend on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import (
    DEFAULT_QUESTIONS,
    Device,
    LimitOption,
    ModelsOption,
    Precision,
    QuestionsOption,
    ReadCacheOption,
    Seed,
    StorePath,
    Style,
    StyleOption,
    TasksOption,
    chosen_models,
    prints_table,
)
from avem.guards.evaluation import check_probe

if TYPE_CHECKING:
    from avem.evaluate.probes.runner import ProbeOptions

probe_app = typer.Typer(no_args_is_help=True, help="Measure which modality a model's answers depend on.")

ProbeOut = Annotated[Path, typer.Option(help="Folder for numbers, figures and the page.")]


@probe_app.command()
@prints_table()
def swap(
    model: ModelsOption = None,
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
    style: StyleOption = Style.LETTERS,
    tasks: TasksOption = None,
    limit: LimitOption = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: ProbeOut = Path("./probe"),
    *,
    form: str,
) -> None:
    """Measure the effect of the other modality on answers.

    Replaces the modality that a question is not about, and measures the change in the correct answer's likelihood.
    """
    check_probe(chosen_models(model), questions, cache, out)

    from avem.commands.tables import show_sheet
    from avem.evaluate.probes.runner import run_swap, swap_sheet

    options = _options(model, questions, cache, style, tasks, limit, seed, device, precision, out)
    show_sheet(swap_sheet(run_swap(options)), form, out / "swap.html")


@probe_app.command()
@prints_table()
def attention(
    model: ModelsOption = None,
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
    style: StyleOption = Style.LETTERS,
    tasks: TasksOption = None,
    limit: LimitOption = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: ProbeOut = Path("./probe"),
    *,
    form: str,
) -> None:
    """Measure attention on video and audio tokens, by task."""
    check_probe(chosen_models(model), questions, cache, out)

    from avem.commands.tables import show_sheet
    from avem.evaluate.probes.runner import attention_sheet, run_attention

    options = _options(model, questions, cache, style, tasks, limit, seed, device, precision, out)
    show_sheet(attention_sheet(run_attention(options)), form, out / "attention.html")


def _options(
    models: list[str] | None,
    questions: Path,
    cache: Path,
    style: Style,
    tasks: str | None,
    limit: int | None,
    seed: int,
    device: str,
    precision: str,
    out: Path,
) -> ProbeOptions:
    from avem.evaluate.probes.runner import ProbeOptions

    return ProbeOptions(
        models=chosen_models(models),
        questions=questions,
        cache=cache,
        style=style.value,
        tasks=tuple(tasks.split(",") if tasks else ()),
        limit=limit,
        seed=seed,
        device=device,
        precision=precision,
        out=out,
    )
