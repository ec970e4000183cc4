"""`avem extract`: clips to features."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from avem.errors import MissingFileError, PartialFailure
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.guards.output_kinds import STORE
from avem.guards.outputs import folder_target
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.cache.records import Kind


class Engine(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


class Decoder(StrEnum):
    """What reads the media files."""

    PYAV = "pyav"
    DECORD = "decord"


class Stream(StrEnum):
    """A stream of features."""

    VIDEO = "video"
    AUDIO = "audio"


class Long(StrEnum):
    """What becomes of clips longer than 30 s."""

    CUT = "cut"
    WINDOWS = "windows"


def _batch_size(text: str) -> int | None:
    """`auto`, which is None, or a number."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a number nor auto") from error


def extract(
    root: Annotated[Path, typer.Argument(help="Root folder of a dataset, or any folder with a clips.csv.")],
    cache: Annotated[Path, typer.Option(help="The feature store; made if it is not there.")] = Path("./cache"),
    video_encoder: Annotated[str, typer.Option(help="Folder or hub id.")] = DEFAULT_VIDEO_ENCODER,
    audio_encoder: Annotated[str, typer.Option(help="Folder, openai .pt file or hub id.")] = DEFAULT_AUDIO_ENCODER,
    dataset: Annotated[str | None, typer.Option(help="Layout to read, if it is not recognised.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many clips.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; one a core by default.")] = None,
    batch_size: Annotated[
        str, typer.Option(help="Clips encoded at once; auto is what the device's memory allows, up to 32.")
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or several as cuda:0,cuda:1; auto takes every GPU if there is one.")
    ] = "auto",
    engine: Annotated[Engine, typer.Option(help="This machine, or a Ray cluster (pip install avem\\[ray]).")] = (
        Engine.LOCAL
    ),
    dtype: Annotated[str, typer.Option(help="How features are kept: float16, bfloat16 or int8.")] = "float16",
    precision: Annotated[
        str, typer.Option(help="What encoders compute in: auto, float32, float16, bfloat16.")
    ] = "auto",
    decoder: Annotated[
        Decoder, typer.Option(help="pyav, or decord: as the reference implementation decodes, its errors included.")
    ] = Decoder.PYAV,
    streams: Annotated[
        list[Stream] | None, typer.Option(help="Streams to extract; may be repeated. Both by default.")
    ] = None,
    long: Annotated[
        Long | None,
        typer.Option(
            help="Clips longer than 30 s: whole with their sound cut, or windows of 30 s.",
            show_default="what the store was made with, else cut",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how large it is.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed clips again.")] = False,
) -> None:
    """Turn clips into features, once; the same command goes on where an earlier run stopped."""
    if not root.expanduser().is_dir():
        raise MissingFileError(f"There is no folder {root}; give the root folder of a dataset.")
    if not dry_run:
        folder_target(cache.expanduser(), STORE, roots=[root.expanduser()], option="--cache")

    from avem.extract import ExtractOptions
    from avem.extract import extract as run

    options = ExtractOptions(
        video_encoder=video_encoder,
        audio_encoder=audio_encoder,
        dataset=dataset,
        limit=limit,
        workers=workers,
        batch_size=_batch_size(batch_size),
        device=device,
        engine=engine.value,
        dtype=dtype,
        precision=precision,
        streams=cast("tuple[Kind, ...]", tuple(map(str, streams or Stream))),
        dry_run=dry_run,
        retry_failed=retry_failed,
        decoder=decoder.value,
        long=None if long is None else long.value,
    )
    report = run(root, cache, options)
    show(report.summary)
    if report.failures:
        raise PartialFailure(
            f"{len(report.failures)} clips failed; the manifest says why, and --retry-failed tries them again."
        )
