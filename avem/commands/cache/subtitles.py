"""`avem cache subtitles`: what is said in a store's clips, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import NONE, ReadCacheOption, StorePath
from avem.errors import PartialFailure, SettingError
from avem.guards.inputs import need_file, need_path, need_store
from avem.text.terminal import show


def subtitles(
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
    whisper: Annotated[
        str | None,
        typer.Option(help="Whisper model that transcribes the clips, such as large-v3.pt.", show_default=NONE),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV file with the columns clip_id and subtitle, instead of a model.", show_default=NONE),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove all subtitles of the store instead.")] = False,
    media: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the clips, or the one around it, if they were moved.",
            show_default="as recorded in the store",
        ),
    ] = None,
    translate: Annotated[
        bool, typer.Option("--translate", help="Have Whisper write English, whatever is spoken.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Also transcribe clips whose subtitle another model or a table gave."),
    ] = False,
    device: Annotated[str, typer.Option(help="Where Whisper computes: cpu or cuda.")] = "cpu",
) -> None:
    """Give clips subtitles, by Whisper or from a table.

    Subtitles from `clips.csv` and from .srt and .vtt files are entered by `avem extract`, and stay as they are here.
    Prompts hold subtitles only where they are asked for: `--set subtitles=true` of `avem train`, `--subtitles` of
    `avem bench`.

    Run the same command again to resume. Exit status 3 if some clips could not be transcribed.
    """
    chosen = [name for name, on in (("--whisper", whisper), ("--table", table), ("--remove", remove)) if on]
    if len(chosen) != 1:
        given = " and ".join(chosen) or "none of them was given"
        raise SettingError(
            f"Subtitles come from one of --whisper MODEL.pt and --table FILE.csv, or go with --remove ({given}); "
            "give one."
        )
    if chosen != ["--whisper"] and (translate or replace or media):
        raise SettingError("--translate, --replace and --media belong to --whisper; leave them out.")
    need_store(cache)
    need_file(whisper, "--whisper", "Whisper model")
    need_file(table, "--table", "table of subtitles")
    need_path(media, "--media", "folder of clips")

    from avem.tools.transcripts import enter_table, load_transcriber, remove_subtitles, transcribe_store

    if remove:
        show(f"{remove_subtitles(cache)} subtitles were removed.")
        return
    if table is not None:
        changed, unknown = enter_table(cache, table)
        show(f"{changed} subtitles changed.")
        if unknown:
            raise PartialFailure(
                f"{len(unknown)} clips of {table} are not in {cache}, such as {unknown[0]}; the others were entered."
            )
        return
    transcriber = load_transcriber(str(whisper), device, translate=translate)
    found = transcribe_store(cache, transcriber, media=media, replace=replace)
    show(f"{found.entered} clips were transcribed; nothing is said in {found.silent} of them.")
    if others := {source: count for source, count in found.kept.items() if source != transcriber.source}:
        named = ", ".join(f"{count} from {source}" for source, count in others.items())
        hint = "" if replace else "; --replace transcribes those of other models again"
        show(f"{sum(others.values())} clips keep the subtitle that they had ({named}){hint}.")
    if found.failed:
        clip_id, reason = next(iter(found.failed.items()))
        raise PartialFailure(f"{len(found.failed)} clips could not be transcribed, such as {clip_id}: {reason}")
