"""`avem probe`: what a model's answers hang on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import (
    AsCsv,
    AsJson,
    AsLatex,
    AsMarkdown,
    Device,
    LimitOption,
    ModelsOption,
    Precision,
    QuestionsOption,
    Seed,
    StorePath,
    Style,
    StyleOption,
    TasksOption,
    chosen_models,
)
from avem.commands.paths import check_probe

if TYPE_CHECKING:
    from avem.evaluate.probes.runner import ProbeOptions

probe_app = typer.Typer(no_args_is_help=True, help="Look at what a model's answers hang on.")

ProbeOut = Annotated[Path, typer.Option(help="Where numbers, pictures and the page go.")]


@probe_app.command()
def swap(
    model: ModelsOption = None,
    questions: QuestionsOption = Path("./emorealm_v1.json"),
    cache: StorePath = Path("./cache"),
    style: StyleOption = Style.LETTERS,
    tasks: TasksOption = None,
    limit: LimitOption = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: ProbeOut = Path("./probe"),
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    as_markdown: AsMarkdown = False,
    as_latex: AsLatex = False,
) -> None:
    """Replace the modality that a question is not about, and see how far the correct answer's likelihood shifts."""
    check_probe(chosen_models(model), questions, cache, out)

    from avem.commands.tables import show_sheet, table_form
    from avem.evaluate.probes.runner import run_swap, swap_sheet

    form = table_form(as_json=as_json, as_csv=as_csv, as_markdown=as_markdown, as_latex=as_latex)
    options = _options(model, questions, cache, style, tasks, limit, seed, device, precision, out)
    show_sheet(swap_sheet(run_swap(options)), form, out / "swap.html")


@probe_app.command()
def attention(
    model: ModelsOption = None,
    questions: QuestionsOption = Path("./emorealm_v1.json"),
    cache: StorePath = Path("./cache"),
    style: StyleOption = Style.LETTERS,
    tasks: TasksOption = None,
    limit: LimitOption = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: ProbeOut = Path("./probe"),
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    as_markdown: AsMarkdown = False,
    as_latex: AsLatex = False,
) -> None:
    """Share out the attention on video and audio tokens, task by task."""
    check_probe(chosen_models(model), questions, cache, out)

    from avem.commands.tables import show_sheet, table_form
    from avem.evaluate.probes.runner import attention_sheet, run_attention

    form = table_form(as_json=as_json, as_csv=as_csv, as_markdown=as_markdown, as_latex=as_latex)
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
