"""`avem prefs`: preference data made, checked, converted and judged by people."""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from avem.guards.inputs import need_file, need_path, need_store
from avem.guards.output_kinds import PREFS, SURVEY
from avem.guards.outputs import folder_target
from avem.text.terminal import show, show_block

prefs_app = typer.Typer(no_args_is_help=True, help="Make and check preference data.")
emorealm_app = typer.Typer(no_args_is_help=True, help="Make benchmark data.")

ROWS_FILE = Path("./preferences.jsonl")


class Form(StrEnum):
    """Files that preference rows are written as."""

    ROWS = "rows"
    REFERENCE = "reference"
    TRL = "trl"
    LLAMA_FACTORY = "llama-factory"


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
    root: Annotated[Path, typer.Argument(help="A labelled dataset, in a layout that avem extract knows.")],
    model: Annotated[str, typer.Option(help="Model that writes captions, questions and answers.")],
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address.")] = "http://localhost:8000/v1",
    audio_model: Annotated[str, typer.Option(help="Model that hears. [default: the model]")] = "",
    guess_model: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME@ADDRESS of a text-only guesser; repeat it for several.")
    ] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
    out: Annotated[Path | None, typer.Option(help="Folder for everything. [default: ./prefs or ./emorealm]")] = None,
    dataset: Annotated[str | None, typer.Option(help="The layout, where it is not recognised.")] = None,
    split: Annotated[str | None, typer.Option(help="Only clips of this split.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many clips, drawn by the seed.", min=1)] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompts that replace ours.")] = None,
    frames: Annotated[int, typer.Option(help="Frames shown of a clip.", min=1)] = 8,
    blur_captions: Annotated[float, typer.Option(help="Blur this share of each frame, from the bottom.")] = 0.0,
    parallel: Annotated[int, typer.Option(help="Requests in flight.", min=1)] = 8,
    retries: Annotated[int, typer.Option(help="Further tries of a failed request.", min=0)] = 5,
    timeout_s: Annotated[float, typer.Option(help="Longest wait for a reply, in seconds.")] = 120.0,
    temperature: Annotated[float, typer.Option(help="Of every request.", min=0.0)] = 0.0,
    response_format: Annotated[str, typer.Option(help="none or json_object, if the server knows it.")] = "none",
    batch: Annotated[bool, typer.Option("--batch", help="Write files for the provider's batch service.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; count requests and estimate cost.")] = False,
    price_in: Annotated[float, typer.Option(help="Price of a million prompt tokens.", min=0.0)] = 0.0,
    price_out: Annotated[float, typer.Option(help="Price of a million reply tokens.", min=0.0)] = 0.0,
    emotion_tolerance: Annotated[float, typer.Option(help="How far emotions may stray from the source.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of every draw, and sent with every request.")] = 0,
) -> None:
    """Build from a labelled dataset; the same command goes on where an earlier run stopped and pays nothing twice."""
    kind: Literal["prefs", "emorealm"]
    kind = "emorealm" if context.parent and context.parent.info_name == "emorealm" else "prefs"
    out = out or Path(kind)
    need_path(root, "ROOT", "dataset")
    need_path(prompts, "--prompts", "folder of prompts")
    if not dry_run:
        folder_target(out, PREFS, reads=[prompts], roots=[root])

    from avem.commands.prefs_tables import show_build, show_estimate
    from avem.errors import PartialFailure
    from avem.tools.prefs.asking.estimate import estimate
    from avem.tools.prefs.build import build as build_data
    from avem.tools.prefs.media import MediaOptions
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
        media=MediaOptions(frames=frames, blur_captions=blur_captions),
        emotion_tolerance=emotion_tolerance,
        seed=seed,
    )
    if dry_run:
        show_estimate(estimate(options, price_in, price_out))
        return
    result = build_data(options)
    show_build(result)
    if failed := result.ledger.passing:
        raise PartialFailure(f"{failed} requests got no answer; the same command asks them again.")


@prefs_app.command()
def validate(
    rows: Annotated[Path, typer.Argument(help="Preference rows: JSON Lines, or the reference's JSON.")] = ROWS_FILE,
    benchmark: Annotated[
        list[Path] | None, typer.Option(help="A benchmark that must share no clip with the rows; may be repeated.")
    ] = None,
    cache: Annotated[
        list[Path] | None, typer.Option(help="A feature store that knows the clips; may be repeated.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to be trained; its tokenizer's special tokens are faults in rows.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sample that the text-only classifier sees.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Report every fault with its line, and what a model could tell the answers apart by; exit status 2 on errors."""
    need_file(rows, "ROWS")
    for file in benchmark or ():
        need_file(file, "--benchmark", "benchmark file")
    for store in cache or ():
        need_store(store)

    from avem.commands.prefs_tables import show_report
    from avem.errors import DataError
    from avem.tools.prefs.checks.validate import validate as validate_rows

    tokens: Collection[str] = ()
    if model is not None:
        from avem.guards.special_tokens import special_tokens
        from avem.train.checkpoints.load import tokenizer_of

        tokens = special_tokens(tokenizer_of(model))
    report = validate_rows(rows, benchmark or (), cache or (), seed, tokens)
    if as_json:
        show_block(json.dumps(report.to_json(), indent=1))
    else:
        show_report(report)
    if bad := report.errors or (strict and len(report.faults)):
        raise DataError(f"{rows} has {bad} faults that are to be mended before training.")


@prefs_app.command()
def convert(
    rows: Annotated[Path, typer.Argument(help="Preference rows: JSON Lines, or the reference's JSON.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    to: Annotated[Form, typer.Option(help="The form to write.")] = Form.ROWS,
    media: Annotated[str, typer.Option(help="How a clip's file is called, for forms that name files.")] = "{clip}.mp4",
) -> None:
    """Write preference rows in another form: the reference's JSON, TRL's or LLaMA-Factory's."""
    need_file(rows, "ROWS")
    from avem.tools.prefs.formats import read_rows, write_rows

    read = read_rows(rows)
    for path in write_rows(read, out, to.value, lambda clip: media.replace("{clip}", clip), reads=[rows]):
        show(path)


@prefs_app.command()
def survey(
    source: Annotated[Path, typer.Argument(help="Preference rows or a benchmark file.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("./survey"),
    media: Annotated[Path | None, typer.Option(help="Folder of the clips; those asked about are copied.")] = None,
    votes: Annotated[int, typer.Option(help="People who judge each item.")] = 3,
    per_booklet: Annotated[int, typer.Option(help="Items that one person gets.")] = 40,
    attention_every: Annotated[int, typer.Option(help="One of so many items is an attention check; 0: none.")] = 10,
    verified: Annotated[Path | None, typer.Option(help="Benchmark questions known to be right, as checks.")] = None,
    sample: Annotated[int | None, typer.Option(help="At most so many rows or questions.", min=1)] = None,
    label_studio: Annotated[bool, typer.Option("--label-studio", help="Write Label Studio tasks instead.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sample and the orders.")] = 0,
) -> None:
    """Make a page on which people judge rows or questions; it works from a folder, without a server."""
    need_file(source, "SOURCE", "benchmark or preference rows")
    need_file(verified, "--verified", "benchmark file")
    need_path(media, "--media", "folder of clips")
    folder_target(out, SURVEY, reads=[source, verified], roots=[media])

    from avem.tools.prefs.survey.pages import SurveyOptions, make_survey

    items = make_survey(
        SurveyOptions(
            source=source,
            out=out,
            media=media,
            votes=votes,
            per_booklet=per_booklet,
            attention_every=attention_every,
            verified=verified,
            sample=sample,
            label_studio=label_studio,
            seed=seed,
        )
    )
    show(f"{len(items)} items are in {out}; keep {out / 'key.json'}, which holds the right answers, to yourself.")


@prefs_app.command("votes")
def read_votes(
    survey: Annotated[Path, typer.Argument(help="The survey's folder.")],
    results: Annotated[list[Path], typer.Argument(help="Files that people saved, or Label Studio exports.")],
    out: Annotated[Path | None, typer.Option(help="Write what was found right here.")] = None,
    attention: Annotated[float, typer.Option(help="Share of attention checks to pass.", min=0.0, max=1.0)] = 0.75,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Read votes back: majorities, discrepancies and Krippendorff's alpha, as in Tables 6 and 7."""
    need_file(survey / "key.json", "SURVEY", "key of a survey")
    for file in results:
        need_file(file, "RESULTS", "file of votes")
    from dataclasses import asdict

    from avem.commands.prefs_tables import show_verdicts
    from avem.tools.prefs.survey.votes import keep_verified, read_verdicts

    verdicts = read_verdicts(survey, results, attention)
    if as_json:
        show_block(json.dumps([asdict(group) for group in verdicts.groups], indent=1))
    else:
        show_verdicts(verdicts)
    if out is not None:
        show(f"{keep_verified(survey, verdicts, out)} are in {out}.")
