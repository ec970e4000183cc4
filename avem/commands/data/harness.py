"""`avem emorealm export`: the benchmark in other harnesses."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import DEFAULT_QUESTIONS, QuestionsOption, StorePath
from avem.guards.inputs import need_file, need_path
from avem.text.terminal import show


class HarnessName(StrEnum):
    """Harnesses that avem writes tasks for."""

    LMMS_EVAL = "lmms-eval"
    VLMEVALKIT = "vlmevalkit"
    INSPECT = "inspect"


def export(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    to: Annotated[HarnessName, typer.Option(help="The harness.")],
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Folder of the clips, or the one around it.", show_default="those of the store"),
    ] = None,
    cache: StorePath = Path("./cache"),
    variants: Annotated[
        str, typer.Option(help="What models are shown: audiovisual, audio, visual, or several with commas.")
    ] = "audiovisual,audio,visual",
) -> None:
    """Write task files with which another harness runs EmoReAlM.

    The files read your own copy of the questions and clips; DIR holds no questions. For the variants with one modality
    it holds the clips' sound, and their picture without sound. Do not publish those.

    `avem bench emorealm --answers` reads the harness's log. Run the same command again to resume.
    """
    need_file(questions, "--questions", "benchmark file")
    need_path(media, "--media", "folder of clips")

    from avem.errors import PartialFailure
    from avem.evaluate.harness.export import ExportOptions, export_benchmark

    made = export_benchmark(
        ExportOptions(
            harness=to.value,
            out=out,
            questions=questions,
            media_root=media,
            cache=cache,
            variants=tuple(variants.split(",")),
        )
    )
    show(", ".join(f"{variant}: {number} questions" for variant, number in made.questions.items()))
    if made.soundless:
        show(f"{len(made.soundless)} clips have no sound and are not in the audio variant ({made.soundless[0]}, ...).")
    show(f"Run it with: {made.command}")
    if made.absent:
        name, reason = next(iter(made.absent.items()))
        raise PartialFailure(
            f"{len(made.absent)} questions are left out, as their clips are missing ({name}: {reason})."
        )
