"""`avem bench emer`: descriptions graded by a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import (
    AsCsv,
    AsJson,
    AsLatex,
    AsMarkdown,
    Device,
    KeyVariable,
    OutOption,
    Parallel,
    Precision,
    Retries,
    Seed,
    StorePath,
    Timeout,
)
from avem.commands.paths import check_bench
from avem.guards.inputs import need_file, need_path
from avem.text.terminal import show


def emer(
    references: Annotated[Path, typer.Option(help="People's descriptions: objects with id and reference.")],
    judge: Annotated[str, typer.Option(help="The judge's name at the endpoint.")],
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address of the judge (.../v1).")],
    answers: Annotated[Path | None, typer.Option(help="The model's descriptions: id and text.")] = None,
    model: Annotated[str, typer.Option(help="Or the model that is to describe the store's clips.")] = "",
    cache: StorePath = Path("./cache"),
    rubric: Annotated[Path | None, typer.Option(help="Another rubric than the usual one.")] = None,
    input_price: Annotated[float, typer.Option(help="Of a million tokens read, for the estimate.")] = 0.0,
    output_price: Annotated[float, typer.Option(help="Of a million tokens written.")] = 0.0,
    max_cost: Annotated[float | None, typer.Option(help="Refuse to start above this estimate.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    parallel: Parallel = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: OutOption = Path("./bench"),
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    as_markdown: AsMarkdown = False,
    as_latex: AsLatex = False,
) -> None:
    """Have a judge grade emotion descriptions after a rubric; a stopped run goes on and pays for nothing twice."""
    need_path(references, "--references", "file of descriptions")
    need_path(answers, "--answers", "answers")
    need_file(rubric, "--rubric", "rubric")
    if not dry_run:
        check_bench((model,) if model else (), cache, out, reads=(references, answers, rubric))

    from avem.commands.tables import show_sheet, table_form
    from avem.endpoint.chat import ChatSettings
    from avem.evaluate.emer.bench import Estimate, JudgeOptions
    from avem.evaluate.emer.runner import EmerOptions, run_emer

    form = table_form(as_json=as_json, as_csv=as_csv, as_markdown=as_markdown, as_latex=as_latex)
    settings = ChatSettings(
        endpoint=endpoint, model=judge, key_variable=key_variable, timeout_s=timeout, retries=retries, parallel=parallel
    )
    judging = JudgeOptions(input_price=input_price, output_price=output_price, max_cost=max_cost, seed=seed)
    options = EmerOptions(
        references=references,
        judge=settings,
        answers=answers,
        model=model,
        cache=cache,
        rubric=rubric,
        judging=judging,
        device=device,
        precision=precision,
        out=out,
        dry_run=dry_run,
    )
    found = run_emer(options)
    if isinstance(found, Estimate):
        show(f"{judge} would grade {found}.")
    else:
        show_sheet(found.sheet(), form, out / "emer" / found.name / "report.html")
