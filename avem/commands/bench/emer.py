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
    MediaOption,
    OutOption,
    Parallel,
    Precision,
    ReadCacheOption,
    Retries,
    Seed,
    StorePath,
    SubtitlesShown,
    Timeout,
    endpoint_options,
    prints_table,
)
from avem.endpoint.reach import need_endpoint
from avem.errors import SettingError
from avem.guards.evaluation import check_bench
from avem.guards.inputs import need_file, need_path
from avem.text.terminal import show


@prints_table()
def emer(
    references: Annotated[
        Path,
        typer.Option(help="Reference descriptions: EMER's CSV (name, reason), or JSON objects with id and reference."),
    ],
    judge: Annotated[
        list[str], typer.Option(help="Judge model at the endpoint, or NAME@ADDRESS; repeat for several judges.")
    ],
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address (.../v1) of the judge model.")],
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="Descriptions to grade: JSON objects with id and text; may be repeated.", show_default=NONE),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model that describes the clips first; may be repeated.", show_default=NONE)
    ] = None,
    model_endpoint: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible address that serves --model.", show_default="run the model here"),
    ] = None,
    subtitles: SubtitlesShown = False,
    media: MediaOption = None,
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
    for path in answers or ():
        need_path(path, "--answers", "answers")
    need_path(media, "--media", "folder of clips")
    need_file(rubric, "--rubric", "rubric")
    if not (answers or model):
        raise SettingError("EMER grades descriptions; name a model with --model, or descriptions with --answers.")
    if subtitles and not model:
        raise SettingError("--subtitles has no effect: no model is run. Leave it out, or give a model with --model.")
    if not dry_run:
        reads = (references, *(answers or ()), rubric)
        check_bench(model or (), cache, out, reads=reads, media=media, endpoint=model_endpoint)
        for each in judge:
            need_endpoint(each.partition("@")[2] or endpoint, saved=out)

    from avem.commands.tables import show_sheet
    from avem.endpoint.chat import ChatSettings
    from avem.evaluate.emer.bench import EmerResult, Estimate, JudgeOptions
    from avem.evaluate.emer.compare import compare_sheet
    from avem.evaluate.emer.runner import EmerOptions, emer_runs, run_all

    judges = [
        ChatSettings(
            endpoint=address or endpoint,
            model=name,
            key_variable=key_variable,
            timeout_s=timeout,
            retries=retries,
            parallel=parallel,
        )
        for name, _, address in (given.partition("@") for given in judge)
    ]
    base = EmerOptions(
        references=references,
        judge=judges[0],
        cache=cache,
        media=media,
        subtitles=subtitles,
        model_endpoint=endpoint_options(
            model_endpoint,
            key_variable=key_variable,
            parallel=parallel,
            timeout_s=timeout,
            retries=retries,
            sound=True,
        ),
        rubric=rubric,
        judging=JudgeOptions(input_price=input_price, output_price=output_price, max_cost=max_cost, seed=seed),
        device=device,
        precision=precision,
        out=out,
        dry_run=dry_run,
    )
    runs = emer_runs(base, answers or (), model or (), judges)
    found = run_all(runs)
    for run, outcome in zip(runs, found, strict=True):
        if isinstance(outcome, Estimate):
            show(f"{run.judge.model} would grade {outcome}.")
    results = [each for each in found if isinstance(each, EmerResult)]
    if len(results) == 1:
        show_sheet(results[0].sheet(), form, out / "emer" / results[0].name / "report.html")
    elif results:
        show_sheet(compare_sheet(results), form, out / "emer" / "compare.html")
