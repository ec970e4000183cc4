"""`avem prefs export` and `avem prefs import`: preference rows to and from other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import NONE
from avem.guards.inputs import need_file, need_store
from avem.text.terminal import show


class Target(StrEnum):
    """Formats that rows are written in."""

    TRL = "trl"
    LLAMA_FACTORY = "llama-factory"
    MS_SWIFT = "ms-swift"
    VERL_OMNI = "verl-omni"


class Source(StrEnum):
    """Formats that rows are read from."""

    TRL = "trl"
    LLAMA_FACTORY = "llama-factory"
    MS_SWIFT = "ms-swift"
    VERL_OMNI = "verl-omni"
    OMNI_PREFERENCE = "omni-preference"
    EMOPREFER = "emoprefer"


def export(
    rows: Annotated[Path, typer.Argument(help="Preference rows: JSON Lines, or JSON as the reference has it.")],
    out: Annotated[Path, typer.Argument(help="File to write; .parquet for verl-omni.")],
    to: Annotated[Target, typer.Option(help="Program that reads the file.")],
    video: Annotated[str, typer.Option(help="Name pattern of a clip's video file.")] = "{clip}.mp4",
    audio: Annotated[str, typer.Option(help="Name pattern of a clip's sound file.")] = "{clip}.wav",
    cache: Annotated[
        Path | None, typer.Option(help="Feature store with mined negatives, for rejected media.", show_default=NONE)
    ] = None,
    negatives: Annotated[str, typer.Option(help="Recipe of the negatives that --cache holds.")] = "hard",
) -> None:
    """Write preference rows for another trainer.

    One entry for each rejected answer. With --cache, ms-swift also gets an entry with rejected_videos and
    rejected_audios: the same answer on another clip.

    `avem prefs import` reads the file back without loss.
    """
    need_file(rows, "ROWS")
    if cache is not None:
        need_store(cache)

    from avem.errors import SettingError
    from avem.tools.prefs.exchange.base import ClipFiles
    from avem.tools.prefs.exchange.registry import FORMATS, export_rows, rejected_clips
    from avem.tools.prefs.formats import read_rows

    rejected = {}
    if cache is not None:
        if to is not Target.MS_SWIFT:
            raise SettingError(f"--cache has no effect: {to.value} takes no rejected media. Leave it out.")
        from avem.cache import FeatureStore

        rejected = rejected_clips(read_rows(rows), FeatureStore.open(cache), negatives)
    for path in export_rows(rows, out, to.value, ClipFiles(video, audio, rejected)):
        show(path)
    show(FORMATS[to.value].note)


def import_(
    source: Annotated[Path, typer.Argument(help="File to read.")],
    out: Annotated[Path, typer.Argument(help="JSON Lines file of rows to write.")],
    form: Annotated[Source, typer.Option("--from", help="Program or dataset that the file is from.")],
) -> None:
    """Read preference data of another program or dataset.

    omni-preference: final_rl_data.jsonl for video or audio; emoprefer: track3_emoprefer.csv of MER2026.

    A pair with one rejected answer has it for both kinds, which makes the loss that of plain DPO.
    """
    need_file(source, "SOURCE")

    from avem.tools.prefs.exchange.registry import import_rows

    show(f"{import_rows(source, out, form.value)} rows are in {out}.")
