"""`avem bench emer`: emotion descriptions graded by a judge model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import (
    NO_LIMIT,
    NONE,
    Device,
    KeyVariable,
    OutOption,
    Parallel,
    Precision,
    ReadCacheOption,
    Retries,
    Seed,
    StorePath,
    Timeout,
    prints_table,
)
from avem.guards.evaluation import check_bench
from avem.guards.inputs import need_file, need_path
from avem.text.terminal import show


@prints_table()
def emer(
    references: Annotated[
        Path, typer.Option(help="Reference descriptions by humans: JSON objects with id and reference.")
    ],
    judge: Annotated[str, typer.Option(help="Name of the judge model at the endpoint.")],
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address (.../v1) of the judge model.")],
    answers: Annotated[
        Path | None, typer.Option(help="Descriptions to grade: JSON objects with id and text.", show_default=NONE)
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model that describes the store's clips, if there is no --answers.", show_default=NONE)
    ] = "",
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
    rubric: Annotated[
        Path | None, typer.Option(help="File with your own rubric.", show_default="the built-in one")
    ] = None,
    input_price: Annotated[float, typer.Option(help="Price of a million input tokens, for the cost estimate.")] = 0.0,
    output_price: Annotated[float, typer.Option(help="Price of a million output tokens.")] = 0.0,
    max_cost: Annotated[
        float | None, typer.Option(help="Do not start if the estimated cost is higher.", show_default=NO_LIMIT)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the number of requests and the estimated cost, and exit.")
    ] = False,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    parallel: Parallel = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: OutOption = Path("./bench"),
    *,
    form: str,
) -> None:
    """Grade emotion descriptions with a judge model and a rubric.

    Run the same command again to resume a run that was stopped; no grade is paid for twice.
    """
    need_path(references, "--references", "descriptions")
    need_path(answers, "--answers", "answers")
    need_file(rubric, "--rubric", "rubric")
    if not dry_run:
        check_bench((model,) if model else (), cache, out, reads=(references, answers, rubric))

    from avem.commands.tables import show_sheet
    from avem.endpoint.chat import ChatSettings
    from avem.evaluate.emer.bench import Estimate, JudgeOptions
    from avem.evaluate.emer.runner import EmerOptions, run_emer

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
