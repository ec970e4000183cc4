"""`avem ask`: from a media file to an answer, and to what the answer depends on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from avem.commands.options import (
    NONE,
    Device,
    EndpointOption,
    KeyVariable,
    Precision,
    ReadCacheOption,
    Retries,
    Sound,
    Timeout,
    endpoint_options,
)
from avem.errors import AvemError, PartialFailure, SettingError
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.guards.output_kinds import ASK, PAGE
from avem.guards.outputs import file_target, folder_target
from avem.text.terminal import show, show_block, show_table

if TYPE_CHECKING:
    from avem.tools.ask.inputs import AskedClip
    from avem.tools.ask.results import AskedModel, ClipAnswer
    from avem.tools.ask.settings import AskOptions

OUT = Path("./ask")
OUT_DEFAULT = f"{OUT}/ for several clips"
MODEL_DEFAULT = "./runs/avem-dpo, else what `avem demo` left in ./demo"

AskModel: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", help="Model folder or hub id; any kind that avem reads.", show_default=MODEL_DEFAULT),
]
AskCache: TypeAlias = Annotated[
    Path | None,
    typer.Option("--cache", help="Feature store; clips that it holds are not encoded again.", show_default=NONE),
]
VideoEncoder: TypeAlias = Annotated[str, typer.Option(help="Video encoder of AVERE and of models built with avem.")]
AudioEncoder: TypeAlias = Annotated[str, typer.Option(help="Audio encoder of AVERE and of models built with avem.")]
Fps: TypeAlias = Annotated[float | None, typer.Option(help="Qwen-Omni: frames a second.", show_default="the model's")]
Frames: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Frames a clip, spread evenly: of Qwen-Omni, or sent to an endpoint.", show_default="the model's; 8"
    ),
]
MinPixels: TypeAlias = Annotated[
    int | None, typer.Option(help="Qwen-Omni: fewest pixels a frame.", show_default="the model's")
]
MaxPixels: TypeAlias = Annotated[
    int | None, typer.Option(help="Qwen-Omni: most pixels a frame.", show_default="the model's")
]
FillMissing: TypeAlias = Annotated[
    str | None, typer.Option(help="Emotion-LLaMA: zeros, for face and motion.", show_default=NONE)
]
Media: TypeAlias = Annotated[
    bool, typer.Option("--media", help="Run Qwen-Omni through its adapter on media files, not on features.")
]
Tokens: TypeAlias = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer in tokens.", min=1)]
EmotionQuestionOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--emotion-question", help="Question that the seven bars answer.", show_default="that of avem bench"),
]
EmotionAnswerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--emotion-answer",
        help="Answer that is scored for an emotion, with {} for its name.",
        show_default="the noun and the adjective",
    ),
]
System: TypeAlias = Annotated[
    str | None, typer.Option(help="System message of an adapter or endpoint.", show_default="the vendor's")
]


def ask(
    clips: Annotated[
        list[str], typer.Argument(help="Media files, folders or ids of --cache; then the question, in quotes.")
    ],
    model: AskModel = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another clip, whose sound and picture replace the clip's own.", show_default=NONE),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="File of questions: one a line, or JSON.", show_default=NONE)
    ] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page to write.", show_default=NONE)] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the answers, so that the same command resumes.", show_default=OUT_DEFAULT),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Keep the answers about several clips.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each clip.")] = False,
    cache: AskCache = None,
    read_cache: ReadCacheOption = None,
    endpoint: EndpointOption = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    sound: Sound = True,
    media: Media = False,
    video_encoder: VideoEncoder = DEFAULT_VIDEO_ENCODER,
    audio_encoder: AudioEncoder = DEFAULT_AUDIO_ENCODER,
    fps: Fps = None,
    frames: Frames = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    fill_missing: FillMissing = None,
    windows: Annotated[bool, typer.Option(help="Ask about clips longer than 30 s window by window.")] = True,
    emotion_question: EmotionQuestionOption = None,
    emotion_answer: EmotionAnswerOption = None,
    max_new_tokens: Tokens = 128,
    device: Device = "auto",
    precision: Precision = "auto",
    system: System = None,
) -> None:
    """Ask a model about clips, and show what its answer depends on.

    avem ask clip.mp4 "What does she feel, and what shows it?" prints the answer, the seven emotions, and how likely the
    same answer is without the sound, without the picture and from the text alone. About several clips or a folder, the
    answers are kept in ./ask: run the same command again to resume one that was stopped.
    """
    from avem.tools.ask.inputs import find_asked, find_clip

    options = chosen_options(
        model=model or "",
        endpoint=endpoint,
        key_variable=key_variable,
        timeout=timeout,
        retries=retries,
        sound=sound,
        cache=cache,
        video_encoder=video_encoder,
        audio_encoder=audio_encoder,
        fps=fps,
        frames=frames,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        fill_missing=fill_missing,
        media=media,
        windows=windows,
        emotion_question=emotion_question,
        emotion_answer=emotion_answer,
        max_new_tokens=max_new_tokens,
        device=device,
        precision=precision,
        system=system,
    )
    asked = find_asked(clips, questions, store=options.cache)
    other = None if against is None else find_clip(against, store=options.cache)
    reads = [*(clip.path for clip in asked.clips), questions]
    if page is not None:
        file_target(page, PAGE, reads=reads, option="--page")
    if not keep and out is not None:
        raise SettingError("--no-keep keeps no answers in --out; leave one of them out.")
    folder = out or (OUT if keep and len(asked.clips) > 1 else None)
    if folder is not None:
        folder_target(folder, ASK, roots=_folders(asked.clips))

    from avem.tools.ask.kept import keeping
    from avem.tools.ask.session import ask_all, open_session
    from avem.tools.ask.summary import summary_tables
    from avem.tools.ask.text import model_lines
    from avem.tools.ask.usual import with_usual_question

    options, notes = with_usual_question(options, asked.questions)
    session = open_session(options)
    about = replace(session.about, notes=(*session.about.notes, *notes))
    if not as_json:
        for line in model_lines(about):
            show(line)
    answered: list[ClipAnswer] = []
    with nullcontext(session) if folder is None else keeping(session, folder, _folders(asked.clips)) as kept:
        try:
            for clip in ask_all(kept, asked.clips, asked.questions or (options.question,), other):
                answered.append(clip)
                _print(clip, about, as_json)
        except AvemError:
            if answered:  # what was answered before the error is not lost
                _write_page(page, about, answered, as_json)
            raise
    for table in () if as_json else summary_tables(answered):
        show("")
        show_table(table)
    _write_page(page, about, answered, as_json)
    if folder is not None:
        show(f"The answers are kept in {folder}; the same command uses them again.", err=as_json)
    if failed := [clip.name for clip in answered if clip.failed]:
        raise PartialFailure(f"{len(failed)} of {len(answered)} clips could not be used: {', '.join(failed)}.")


def _folders(clips: Sequence[AskedClip]) -> list[Path]:
    """Folders that hold the clips; answers may be kept in one of them."""
    return list(dict.fromkeys(clip.path.parent for clip in clips if clip.path is not None))


def _print(clip: ClipAnswer, model: AskedModel, as_json: bool) -> None:
    """Show what was asked about one clip."""
    from avem.tools.ask.text import print_clip
    from avem.tools.ask.worth.sentences import worth

    if as_json:
        record = {
            "model": model.source,
            "about_question": " ".join(model.notes),
            **clip.to_json(),
            "worth": worth(clip),
        }
        show_block(json.dumps(record, ensure_ascii=False))
    else:
        print_clip(clip, show, plain=not _draws_blocks())


def _write_page(page: Path | None, model: AskedModel, answered: list[ClipAnswer], as_json: bool) -> None:
    """Write the page, where one is wanted, and say so where that is not taken for an answer."""
    if page is None:
        return
    from avem.tools.ask.page import write_page

    write_page(page, model, answered)
    show(f"Open {page}.", err=as_json)


def chosen_options(
    *, endpoint: str | None, key_variable: str, timeout: float, retries: int, sound: bool, **given: Any
) -> AskOptions:
    """The options of a command, completed by what a demo or a run left, with every path looked for.

    Raises:
        AvemError: Something is not there, or an option makes no sense.
    """
    from avem.tools.ask.settings import AskOptions, check_options, with_kit

    if endpoint is not None:
        if not given["model"]:
            raise SettingError("--endpoint needs --model with the model's name at that address.")
        made = endpoint_options(
            endpoint, key_variable=key_variable, parallel=4, timeout_s=timeout, retries=retries, sound=sound
        )
        assert made is not None, "an address was given"
        made = made if given["frames"] is None else replace(made, frames=given["frames"])
        return check_options(AskOptions(endpoint=made, **given))
    return check_options(with_kit(AskOptions(**given)))


def _draws_blocks() -> bool:
    """Whether what is printed can hold block characters."""
    try:
        "\N{FULL BLOCK}\N{LEFT ONE EIGHTH BLOCK}".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
