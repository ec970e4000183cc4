"""`avem instruct`: make, check and review instruction rows, which `avem train --stage sft` reads."""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from avem.commands.options import ALL, NONE, ReportFormat, TasksOption, prints_table
from avem.errors import DataError, PartialFailure, SettingError
from avem.guards.inputs import need_file, need_path, need_store
from avem.guards.output_kinds import PREFS
from avem.guards.outputs import folder_target
from avem.text.terminal import show, show_block

if TYPE_CHECKING:
    from avem.tools.prefs.instruct.convert import Converted

instruct_app = typer.Typer(no_args_is_help=True, help="Make and check instruction rows for supervised tuning.")
ROWS_FILE = Path("./instruct/instructions.jsonl")


class Style(StrEnum):
    """How multiple-choice questions become rows."""

    LETTERS = "letters"
    OPEN = "open"


BenchmarkFiles = Annotated[
    list[Path] | None,
    typer.Option("--benchmark", help="Benchmark whose clips are left out; may be repeated.", show_default=NONE),
]
StoreList = Annotated[
    list[Path] | None,
    typer.Option("--cache", help="Feature store that must hold the clips; may be repeated.", show_default=NONE),
]


@instruct_app.callback()
def instruct() -> None:
    """Make and check instruction rows for supervised tuning."""


@instruct_app.command()
def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="A labelled dataset's folder, captions.jsonl, EmoReAlM-style items, preference rows, or MERR's JSON."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model that writes questions and descriptions, for a folder or captions.", show_default="ask no model"
        ),
    ] = None,
    endpoint: EndpointUrl = "http://localhost:8000/v1",
    audio_model: AudioModel = "",
    guess_model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model that guesses answers without the clip, as NAME or NAME@ADDRESS; repeat for several.",
            show_default=NONE,
        ),
    ] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    out: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("./instruct"),
    style: Annotated[
        Style, typer.Option(help="letters: questions list their options, as the benchmark does; open: they do not.")
    ] = Style.LETTERS,
    clips: Annotated[
        Path | None, typer.Option(help="Dataset that holds the clips that a file names.", show_default=NONE)
    ] = None,
    cache: StoreList = None,
    benchmark: BenchmarkFiles = None,
    dataset: DatasetLayout = None,
    split: SplitOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of clips or entries, drawn with the seed.", min=1, show_default=ALL)
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
        bool, typer.Option("--dry-run", help="Count requests or rows, and exit; sends and writes nothing.")
    ] = False,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance/--no-balance", help="Leave out questions until yes and no, and the emotions, are balanced."
        ),
    ] = False,
    emotion_tolerance: EmotionTolerance = 0.05,
    seed: RequestSeed = 0,
) -> None:
    """Build instruction rows.

    With --model, from a folder of clips or from captions. Without, from what a file holds.
    Run the same command again to resume a run that was stopped; no request is paid for twice.
    """
    need_path(source, "SOURCE", "dataset or file")
    need_path(prompts, "--prompts", "folder of prompts")
    need_path(clips, "--clips", "dataset")
    for file in benchmark or ():
        need_file(file, "--benchmark", "benchmark file")
    for store in cache or ():
        need_store(store)

    from avem.tools.prefs.instruct.sources import recognise

    kind = recognise(source)
    reads = [prompts, *(benchmark or ()), *(cache or ()), *([] if kind == "clips" else [source])]
    if not dry_run:
        folder_target(out, PREFS, reads=reads, roots=[source if kind == "clips" else None, clips])
    if model is None and kind == "clips":
        raise SettingError(f"{source} is a folder of clips, about which a model has to be asked; name it with --model.")
    if model is not None and kind not in ("clips", "captions"):
        raise SettingError(f"No model is asked about {source}, whose rows are there already; leave --model out.")
    chosen = tuple(tasks.split(",") if tasks else ())
    if model is None:
        from avem.tools.prefs.instruct.convert import ConvertOptions, convert, write_converted

        options = ConvertOptions(
            source=source,
            out=out,
            kind=kind,
            style=style.value,
            tasks=chosen,
            clips=clips,
            dataset=dataset,
            stores=tuple(cache or ()),
            benchmarks=tuple(benchmark or ()),
            split=split,
            limit=limit,
            seed=seed,
        )
        found = convert(options)
        if not dry_run:
            write_converted(options, found)
        _show_converted(found, source, None if dry_run else out)
        return

    from avem.commands.data.prefs_tables import check_complete, show_build, show_estimate
    from avem.tools.prefs.asking.estimate import estimate
    from avem.tools.prefs.build import build as build_data
    from avem.tools.prefs.media import MediaOptions, blurred_share
    from avem.tools.prefs.options import BuildOptions

    asked = BuildOptions(
        root=source,
        out=out,
        kind="instruct",
        dataset=dataset,
        split=split,
        limit=limit,
        model=model,
        tasks=chosen,
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
        style=style.value,
        stores=tuple(cache or ()),
        benchmarks=tuple(benchmark or ()),
        seed=seed,
    )
    if dry_run:
        show_estimate(estimate(asked, price_in, price_out))
        return
    result = build_data(asked)
    show_build(result)
    if not benchmark:
        show(UNCHECKED)
    check_complete(result)


UNCHECKED = (
    "No benchmark was named with --benchmark, so nothing was checked against one; do it with "
    "`avem instruct validate --benchmark FILE`."
)


def _show_converted(found: Converted, source: Path, out: Path | None) -> None:
    """Show what a conversion came to.

    Raises:
        PartialFailure: Entries have no clip.
    """
    from avem.commands.data.prefs_tables import show_counts
    from avem.tools.prefs.instruct.screen import leak_sentence

    show_counts(found.ledger)
    where = f"are in {out}; rejected ones are in {out / 'rejected.jsonl'}" if out else "would be written"
    show(f"{len(found.rows)} rows of {found.entries} entries {where}.")
    if found.screen.leaked:
        show(leak_sentence(found.screen.leaked))
    if not found.screen.benchmarks:
        show(UNCHECKED)
    if found.homeless:
        names = ", ".join(found.homeless[:3]) + (
            f" and {len(found.homeless) - 3} more" if len(found.homeless) > 3 else ""
        )
        raise PartialFailure(
            f"{len(found.homeless)} of {found.entries} entries of {source} have no clip and were left out: {names}."
        )


@instruct_app.command()
@prints_table(ReportFormat)
def validate(
    rows: Annotated[Path, typer.Argument(help="Instruction rows.")] = ROWS_FILE,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(help="Benchmark file that must share no clip with the rows; may be repeated.", show_default=NONE),
    ] = None,
    cache: StoreList = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model that you will train: reports its tokenizer's special tokens in rows as errors.",
            show_default=NONE,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
    *,
    form: str,
) -> None:
    """Check instruction rows.

    Reports every error with its line, and answers that are lopsided. Exit status 2 if there are errors.
    """
    need_file(rows, "ROWS")
    for file in benchmark or ():
        need_file(file, "--benchmark", "benchmark file")
    for store in cache or ():
        need_store(store)

    from avem.commands.data.prefs_tables import show_report
    from avem.tools.prefs.checks.instructions import validate_instructions

    tokens: Collection[str] = ()
    if model is not None:
        from avem.guards.special_tokens import special_tokens
        from avem.train.checkpoints.load import tokenizer_of

        tokens = special_tokens(tokenizer_of(model))
    report = validate_instructions(rows, benchmark or (), cache or (), tokens)
    if form == "json":
        show_block(json.dumps(report.to_json(), indent=1))
    else:
        show_report(report)
    if bad := report.errors or (strict and len(report.faults)):
        raise DataError(f"{rows} has {bad} errors; fix them before training.")
