"""`avem bench`: evaluate models, or answers from a file, on benchmarks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.bench.emer import emer
from avem.commands.bench.hallucination import hallucination_command
from avem.commands.bench.mer2026 import mer_prefer, wheels
from avem.commands.bench.next_steps import next_steps
from avem.commands.bench.recognition import recognition_command
from avem.commands.bench.tables import groups, sets
from avem.commands.options import (
    DEFAULT_MODEL,
    DEFAULT_QUESTIONS,
    NO_LIMIT,
    NONE,
    BootstrapSeed,
    Device,
    EndpointOption,
    GenerateOption,
    KeyVariable,
    MediaOption,
    OutOption,
    Parallel,
    Precision,
    QuestionsOption,
    ReadCacheOption,
    Retries,
    Sound,
    StorePath,
    Style,
    StyleOption,
    SubtitlesShown,
    TasksOption,
    Timeout,
    chosen_models,
    endpoint_options,
    prints_table,
)
from avem.guards.evaluation import check_bench
from avem.guards.inputs import need_file, need_path
from avem.text.terminal import show
from avem.train.settings.diffusion import DIFFUSION_STEP, DIFFUSION_STEPS

SubtasksOption = Annotated[
    Path | None,
    typer.Option(
        "--subtasks",
        help="Subtasks of the stress questions, as `avem emorealm subtasks` writes them.",
        show_default=NONE,
    ),
]


class Headline(StrEnum):
    """How headline numbers are measured."""

    LIKELIHOOD = "likelihood"
    GENERATION = "generation"


bench_app = typer.Typer(no_args_is_help=True, help="Evaluate a model on a benchmark.")


bench_app.command()(emer)
bench_app.command()(groups)
bench_app.command()(sets)
bench_app.command()(mer_prefer)
bench_app.command()(wheels)
RECOGNITION = {
    "dfew": "DFEW",
    "ravdess": "RAVDESS",
    "mer2023": "MER2023",
    "crema-d": "CREMA-D",
    "mer2026": "MER2026's labelled clips",
    "meld": "MELD",
    "iemocap": "IEMOCAP",
}
for _dataset, _title in RECOGNITION.items():
    bench_app.command(_dataset)(recognition_command(_dataset, _title))
for _name, _title in (("avhbench", "AVHBench"), ("cmm", "CMM"), ("emotionhallucer", "EmotionHallucer")):
    bench_app.command(_name)(hallucination_command(_name, _title))


@bench_app.callback()
def bench() -> None:
    """Evaluate a model on a benchmark."""


@bench_app.command()
@prints_table()
def emorealm(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model folder or hub id, or an earlier result; may be repeated to compare the others with the first.",
            show_default=f"{DEFAULT_MODEL}",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Compare with this model or earlier result; may be repeated.", show_default=NONE),
    ] = None,
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate these answers instead of a model: JSON, JSON Lines, a folder of <id>.txt, or a log of "
            "lmms-eval, VLMEvalKit or Inspect.",
            show_default=NONE,
        ),
    ] = None,
    style: StyleOption = Style.LETTERS,
    tasks: TasksOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of questions per task.", show_default=NO_LIMIT)
    ] = None,
    generate: GenerateOption = True,
    text_only: Annotated[bool, typer.Option(help="Also ask every question without media.")] = True,
    headline: Annotated[
        Headline | None,
        typer.Option(
            help="Method of the headline numbers: the likeliest option, or the written answer, as in the paper.",
            show_default="likelihood where it was run",
        ),
    ] = None,
    permute: Annotated[
        bool,
        typer.Option("--permute", help="Ask every question in each rotation of its options, and average."),
    ] = False,
    subtasks: SubtasksOption = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="System message of models that read media files.", show_default="that of the vendor's example"
        ),
    ] = None,
    subtitles: SubtitlesShown = False,
    instruction: Annotated[
        bool,
        typer.Option(
            "--instruction", help="Ask models that read media files for the letter alone; the paper does not."
        ),
    ] = False,
    reference_scoring: Annotated[
        bool,
        typer.Option(
            "--reference-scoring", help="Also score written answers with the reference implementation's method."
        ),
    ] = False,
    contrastive: Annotated[
        bool,
        typer.Option(
            "--contrastive",
            help="Score with visual contrastive decoding (VCD): against the same clip with noise added.",
        ),
    ] = False,
    contrast_step: Annotated[
        int,
        typer.Option(
            help="How much noise --contrastive adds: a step of VCD's schedule.", min=0, max=DIFFUSION_STEPS - 1
        ),
    ] = DIFFUSION_STEP,
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
    """Evaluate models on EmoReAlM, from a feature store.

    Run the same command again to resume a run that was stopped.
    """
    models = (*(compare or ()), *(() if answers and not model else chosen_models(model, endpoint)))
    need_file(questions, "--questions", "benchmark file")
    need_path(answers, "--answers", "answers")
    need_file(subtasks, "--subtasks", "file of subtasks")
    need_path(media, "--media", "folder of clips")
    check_bench(models, cache, out, reads=(questions, answers, subtasks), media=media, endpoint=endpoint)

    from avem.commands.tables import show_differences, show_results
    from avem.evaluate.runner import BenchOptions, run_emorealm

    options = BenchOptions(
        questions=questions,
        cache=cache,
        models=models,
        answers=answers,
        subtasks=subtasks,
        headline=headline.value if headline else "",
        permute=permute,
        system=system,
        subtitles=subtitles,
        instruction=instruction,
        style=style.value,
        tasks=tuple(tasks.split(",") if tasks else ()),
        limit=limit,
        generate=generate,
        text_only=text_only,
        seed=seed,
        device=device,
        precision=precision,
        media_root=media,
        out=out,
        contrastive=contrastive,
        contrast_step=contrast_step,
        endpoint=endpoint_options(
            endpoint, key_variable=key_variable, parallel=parallel, timeout_s=timeout, retries=retries, sound=sound
        ),
    )
    results = run_emorealm(options)
    show_results(results, form, seed=seed)
    if reference_scoring:
        show_differences(results, out, form)
    if form == "table":
        show(f"The report is {out / 'report.html'}.")
        for line in next_steps(results, models, out, cache=cache, questions=questions, style=style.value):
            show(line)
