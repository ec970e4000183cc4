"""`avem bench avhbench|cmm|emotionhallucer`: yes/no questions on what can be seen and heard, and what cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import (
    NONE,
    BootstrapSeed,
    Device,
    EndpointOption,
    GenerateOption,
    KeyVariable,
    LimitOption,
    MediaOption,
    ModelsOption,
    OutOption,
    Parallel,
    Precision,
    ReadCacheOption,
    Retries,
    Sound,
    StorePath,
    TasksOption,
    Timeout,
    chosen_models,
    endpoint_options,
    prints_table,
)
from avem.guards.evaluation import check_bench
from avem.guards.inputs import need_file, need_path


def hallucination_command(benchmark: str, title: str) -> Callable[..., None]:
    """The command of one benchmark.

    Args:
        benchmark: Its name in `avem.evaluate.hallucination.registry`.
        title: Its usual name.
    """

    def command(
        questions: Annotated[Path, typer.Option(help="Your copy of the benchmark's questions.")],
        model: ModelsOption = None,
        cache: StorePath = Path("./cache"),
        read_cache: ReadCacheOption = None,
        answers: Annotated[
            Path | None, typer.Option(help="Evaluate these answers instead of a model.", show_default=NONE)
        ] = None,
        tasks: TasksOption = None,
        limit: LimitOption = None,
        generate: GenerateOption = True,
        text_only: Annotated[bool, typer.Option(help="Also ask every question without media.")] = True,
        media: MediaOption = None,
        endpoint: EndpointOption = None,
        key_variable: KeyVariable = "OPENAI_API_KEY",
        parallel: Parallel = 8,
        timeout: Timeout = 120.0,
        retries: Retries = 5,
        sound: Sound = True,
        seed: BootstrapSeed = 0,
        device: Device = "auto",
        precision: Precision = "auto",
        out: OutOption = Path("./bench"),
        *,
        form: str,
    ) -> None:
        models = () if answers and not model else chosen_models(model, endpoint)
        need_file(questions, "--questions", f"file of {title}")
        need_path(answers, "--answers", "answers")
        check_bench(models, cache, out, reads=(questions, answers), media=media, endpoint=endpoint)

        from avem.commands.tables import show_sheet
        from avem.evaluate.hallucination.scores import hallucination_sheet
        from avem.evaluate.runner import BenchOptions, run_emorealm

        options = BenchOptions(
            benchmark=benchmark,
            questions=questions,
            cache=cache,
            models=models,
            answers=answers,
            style="cloze",
            tasks=tuple(tasks.split(",") if tasks else ()),
            limit=limit,
            generate=generate,
            text_only=text_only,
            seed=seed,
            device=device,
            precision=precision,
            media_root=media,
            out=out / benchmark,
            endpoint=endpoint_options(
                endpoint, key_variable=key_variable, parallel=parallel, timeout_s=timeout, retries=retries, sound=sound
            ),
        )
        show_sheet(hallucination_sheet(title, run_emorealm(options)), form, out / benchmark / "report.html")

    command.__doc__ = (
        f"Evaluate hallucination on {title}.\n\nYes and No are scored by their likelihood.\n\n"
        "Reports accuracy, precision, recall, F1, the share of Yes, and AUC."
    )
    return prints_table()(command)
