"""`avem extract`: turn clips into features."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import ALL
from avem.errors import MissingFileError, PartialFailure
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.guards.inputs import need_encoder
from avem.guards.output_kinds import STORE
from avem.guards.outputs import folder_target
from avem.text.terminal import show_block
from avem.urls import is_url


class Engine(StrEnum):
    """Where extraction runs."""

    LOCAL = "local"
    RAY = "ray"


class Decoder(StrEnum):
    """Libraries that decode media files."""

    PYAV = "pyav"
    DECORD = "decord"


class Long(StrEnum):
    """How to treat clips longer than 30 s."""

    CUT = "cut"
    WINDOWS = "windows"


def _batch_size(text: str) -> int | None:
    """Read a number, or `auto` as None."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a number nor auto") from error


def extract(
    root: Annotated[
        Path, typer.Argument(help="Folder of a dataset or of any clips, a CSV table of clips, or one clip.")
    ],
    cache: Annotated[
        Path, typer.Option(help="The feature store: a folder or an s3:// URL; created if it does not exist.")
    ] = Path("./cache"),
    video_encoder: Annotated[str, typer.Option(help="Video encoder: folder or hub id.")] = DEFAULT_VIDEO_ENCODER,
    audio_encoder: Annotated[
        str, typer.Option(help="Audio encoder: folder, openai .pt file or hub id.")
    ] = DEFAULT_AUDIO_ENCODER,
    model: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Model to extract for, as Qwen/Qwen2.5-Omni-7B: folder or hub id. Its own encoders are used.",
            show_default="AVERE's two encoders",
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="With --for: frames per second.", show_default="the model's, 2")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="With --for: frames per clip, spread evenly, instead of --fps.", show_default="by --fps"),
    ] = None,
    min_pixels: Annotated[
        int | None, typer.Option(help="With --for: fewest pixels per frame.", show_default="the model's")
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="With --for: most pixels per frame. Tokens, and so size and cost, follow it.",
            show_default="the model's",
        ),
    ] = None,
    fill_missing: Annotated[
        str | None,
        typer.Option(
            help="With --for: fill streams without a released encoder (Emotion-LLaMA's face and motion) with zeros.",
            show_default="they are left to `avem cache import`",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the dataset's layout, if it is not recognised.", show_default="recognised"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What to call the dataset in the store, as its clips' ids begin: two folders called clips need two "
            "names.",
            show_default="the folder's name",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of clips to extract, from the first on.", show_default=ALL)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of decoding processes.", show_default="one per core")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Clips per batch; auto fits the device's memory, up to 32.")] = "auto",
    device: Annotated[
        str,
        typer.Option(help="cpu, cuda, or several as cuda:0,cuda:1; auto uses every GPU, or the CPU if there is none."),
    ] = "auto",
    engine: Annotated[
        Engine, typer.Option(help="Run on this machine, or on a Ray cluster (pip install avem[ray]).")
    ] = (Engine.LOCAL),
    dtype: Annotated[
        str,
        typer.Option(
            help="Number format of the stored features: float16, bfloat16 or int8; auto is float16, or bfloat16 for "
            "Qwen-Omni."
        ),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Number format the encoders compute in: auto, float32, float16 or bfloat16.")
    ] = "auto",
    decoder: Annotated[
        Decoder,
        typer.Option(help="pyav, or decord, which decodes as the reference implementation does, including its errors."),
    ] = Decoder.PYAV,
    streams: Annotated[
        list[str] | None,
        typer.Option(help="Stream to extract, video or audio; may be repeated.", show_default="all that are read"),
    ] = None,
    long: Annotated[
        Long | None,
        typer.Option(
            help="Clips longer than 30 s: cut their sound at 30 s, or extract windows of 30 s.",
            show_default="as the store was made; cut for a new one",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be extracted and its size, and exit.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry clips that failed in an earlier run.")
    ] = False,
) -> None:
    """Turn clips into features, once.

    Run the same command again to resume a run that was stopped.
    """
    if not root.expanduser().exists():
        raise MissingFileError(
            f"There is no file or folder {root}; give a folder of clips, a table of them, or a clip."
        )
    encoders = (
        {"--video-encoder": video_encoder, "--audio-encoder": audio_encoder} if model is None else {"--for": model}
    )
    for option, encoder in encoders.items():
        need_encoder(encoder, option)
    if not dry_run and not is_url(cache):
        folder_target(
            cache.expanduser(),
            STORE,
            roots=[root.expanduser() if root.is_dir() else root.expanduser().parent],
            option="--cache",
        )

    from avem.extract import ExtractOptions
    from avem.extract import extract as run
    from avem.extract.failures import failure_sentence

    options = ExtractOptions(
        video_encoder=video_encoder,
        audio_encoder=audio_encoder,
        model=model,
        fps=fps,
        frames=frames,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        fill_missing=fill_missing,
        dataset=dataset,
        name=name,
        limit=limit,
        workers=workers,
        batch_size=_batch_size(batch_size),
        device=device,
        engine=engine.value,
        dtype=dtype,
        precision=precision,
        streams=tuple(streams) if streams else ("video", "audio"),
        dry_run=dry_run,
        retry_failed=retry_failed,
        decoder=decoder.value,
        long=None if long is None else long.value,
    )
    report = run(root, cache, options)
    show_block(report.summary)
    if report.failures:
        raise PartialFailure(failure_sentence(report.failures))
