"""`avem prefs`: make, check and convert preference data, and collect ratings of it."""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from avem.commands.data.build_options import (
    AudioModel,
    BatchOption,
    BlurCaptions,
    DatasetLayout,
    EmotionTolerance,
    EndpointUrl,
    FramesOption,
    KeyVariable,
    ParallelRequests,
    PriceIn,
    PriceOut,
    PromptsFolder,
    RequestSeed,
    ResponseFormat,
    RetriesOption,
    SplitOption,
    TemperatureOption,
    TimeoutOption,
)
from avem.commands.data.exchange import export, import_
from avem.commands.options import ALL, NONE, ReportFormat, TasksOption, prints_table
from avem.endpoint.reach import need_endpoint
from avem.guards.inputs import need_file, need_path, need_store
from avem.guards.output_kinds import PREFS
from avem.guards.outputs import folder_target
from avem.text.terminal import show, show_block

prefs_app = typer.Typer(no_args_is_help=True, help="Make and check preference data.")
emorealm_app = typer.Typer(no_args_is_help=True, help="Make benchmark data.")

ROWS_FILE = Path("./preferences.jsonl")


class Form(StrEnum):
    """File formats of preference rows."""

    ROWS = "rows"
    REFERENCE = "reference"
    TRL = "trl"
    LLAMA_FACTORY = "llama-factory"


prefs_app.command("export")(export)
prefs_app.command("import")(import_)


@prefs_app.callback()
def prefs() -> None:
    """Make and check preference data."""


@emorealm_app.callback()
def emorealm() -> None:
    """Make benchmark data."""


@emorealm_app.command("build")
@prefs_app.command("build")
def build(
    context: typer.Context,
    root: Annotated[Path, typer.Argument(help="A labelled dataset, in a layout that `avem extract` knows.")],
    model: Annotated[str, typer.Option(help="Model that writes captions, questions and answers.")],
    endpoint: EndpointUrl = "http://localhost:8000/v1",
    audio_model: AudioModel = "",
    guess_model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model that guesses answers without the clip, as NAME or NAME@ADDRESS; repeat for several.",
            show_default="--model for the benchmark, none for preference data",
        ),
    ] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    out: Annotated[
        Path | None, typer.Option(help="Folder for all results.", show_default="./prefs or ./emorealm")
    ] = None,
    dataset: DatasetLayout = None,
    split: SplitOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of clips to use, drawn with the seed.", min=1, show_default=ALL)
    ] = None,
    tasks: TasksOption = None,
    prompts: PromptsFolder = None,
    frames: FramesOption = 8,
    blur_captions: BlurCaptions = "auto",
    parallel: ParallelRequests = 8,
    retries: RetriesOption = 5,
    timeout_s: TimeoutOption = 120.0,
    temperature: TemperatureOption = 0.0,
    response_format: ResponseFormat = "none",
    batch: BatchOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the requests, estimate the cost, and exit; sends nothing.")
    ] = False,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    balance: Annotated[
        bool | None,
        typer.Option(
            "--balance/--no-balance",
            help="Leave out questions until yes and no, and the emotions, are balanced.",
            show_default="on for the benchmark, off for preference data",
        ),
    ] = None,
    emotion_tolerance: EmotionTolerance = 0.05,
    seed: RequestSeed = 0,
) -> None:
    """Build data from a labelled dataset with a model.

    Run the same command again to resume a run that was stopped; no request is paid for twice.
    """
    kind: Literal["prefs", "emorealm"]
    kind = "emorealm" if context.parent and context.parent.info_name == "emorealm" else "prefs"
    out = out or Path(kind)
    need_path(root, "ROOT", "dataset")
    need_path(prompts, "--prompts", "folder of prompts")
    if not dry_run:
        folder_target(out, PREFS, reads=[prompts], roots=[root])
        need_endpoint(None if batch else endpoint, saved=out)

    from avem.commands.data.prefs_tables import check_complete, show_build, show_estimate
    from avem.tools.prefs.asking.estimate import estimate
    from avem.tools.prefs.build import build as build_data
    from avem.tools.prefs.media import MediaOptions, blurred_share
    from avem.tools.prefs.options import BuildOptions

    options = BuildOptions(
        root=root,
        out=out,
        kind=kind,
        dataset=dataset,
        split=split,
        limit=limit,
        model=model,
        tasks=tuple(tasks.split(",") if tasks else ()),
        endpoint=endpoint,
        audio_model=audio_model,
        guess_models=tuple(guess_model or ()),
        key_variable=key_variable,
        parallel=parallel,
        retries=retries,
        timeout_s=timeout_s,
        temperature=temperature,
        response_format=response_format,
        prompts=prompts,
        batch=batch,
        media=MediaOptions(frames=frames, blur_captions=blurred_share(blur_captions)),
        balance=balance,
        emotion_tolerance=emotion_tolerance,
        seed=seed,
    )
    if dry_run:
        show_estimate(estimate(options, price_in, price_out))
        return
    result = build_data(options)
    show_build(result)
    check_complete(result)


@prefs_app.command()
@prints_table(ReportFormat)
def validate(
    rows: Annotated[
        Path, typer.Argument(help="Preference rows: JSON Lines, or JSON as the reference implementation has it.")
    ] = ROWS_FILE,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(help="Benchmark file that must share no clip with the rows; may be repeated.", show_default=NONE),
    ] = None,
    cache: Annotated[
        list[Path] | None,
        typer.Option(help="Feature store that must hold the clips; may be repeated.", show_default=NONE),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model that you will train: reports its tokenizer's special tokens in rows as errors.",
            show_default=NONE,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the text-only classifier's sample.")] = 0,
    *,
    form: str,
) -> None:
    """Check preference rows.

    Reports every error with its line, and what gives the chosen answer away, such as its length.
    Exit status 2 if there are errors.
    """
    need_file(rows, "ROWS")
    for file in benchmark or ():
        need_file(file, "--benchmark", "benchmark file")
    for store in cache or ():
        need_store(store)

    from avem.commands.data.prefs_tables import show_report
    from avem.errors import DataError
    from avem.tools.prefs.checks.validate import validate as validate_rows

    tokens: Collection[str] = ()
    if model is not None:
        from avem.guards.special_tokens import special_tokens
        from avem.train.checkpoints.load import tokenizer_of

        tokens = special_tokens(tokenizer_of(model))
    report = validate_rows(rows, benchmark or (), cache or (), seed, tokens)
    if form == "json":
        show_block(json.dumps(report.to_json(), indent=1))
    else:
        show_report(report)
    if bad := report.errors or (strict and len(report.faults)):
        raise DataError(f"{rows} has {bad} errors; fix them before training.")


@prefs_app.command()
def convert(
    rows: Annotated[
        Path, typer.Argument(help="Preference rows: JSON Lines, or JSON as the reference implementation has it.")
    ],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    to: Annotated[Form, typer.Option(help="Format to write.")] = Form.ROWS,
    media: Annotated[
        str, typer.Option(help="Name pattern of a clip's file, for formats that name files.")
    ] = "{clip}.mp4",
) -> None:
    """Convert preference rows to another format.

    rows: avem's JSON Lines; reference: the reference implementation's JSON; trl; llama-factory.
    """
    need_file(rows, "ROWS")
    from avem.tools.prefs.formats import read_rows, write_rows

    read = read_rows(rows)
    for path in write_rows(read, out, to.value, lambda clip: media.replace("{clip}", clip), reads=[rows]):
        show(path)


@prefs_app.command()
@prints_table()
def leaks(
    train: Annotated[Path, typer.Argument(help="Feature store of the training clips.")],
    benchmark: Annotated[Path, typer.Argument(help="Feature store of the benchmark's clips.")],
    threshold: Annotated[
        float, typer.Option(help="Least cosine similarity of pooled features.", min=0.0, max=1.0)
    ] = 0.98,
    *,
    form: str,
) -> None:
    """Find training clips that are in a benchmark.

    Copies are found although they were re-encoded or trimmed.

    Compares pooled features, and frames of close pairs by a perceptual hash. Exit status 3 if there are copies.
    """
    need_store(train)
    need_store(benchmark)

    from avem.cache import FeatureStore
    from avem.commands.tables import show_sheet
    from avem.errors import PartialFailure
    from avem.tools.prefs.checks.near import near_pairs, near_sheet

    pairs = near_pairs(FeatureStore.open(train), FeatureStore.open(benchmark), threshold)
    show_sheet(near_sheet(pairs), form)
    if copies := sum(pair.same for pair in pairs):
        raise PartialFailure(f"{copies} pairs look like one clip; leave those training clips out.")
