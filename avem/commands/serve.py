"""`avem serve`: a page on this machine on which one drops a clip and asks."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer

from avem.commands.ask import (
    AskCache,
    AskModel,
    AudioEncoder,
    EmotionAnswerOption,
    EmotionQuestionOption,
    FillMissing,
    Fps,
    Frames,
    MaxPixels,
    Media,
    MinPixels,
    System,
    Tokens,
    VideoEncoder,
    chosen_options,
)
from avem.commands.options import (
    Device,
    EndpointOption,
    KeyVariable,
    Precision,
    ReadCacheOption,
    Retries,
    Sound,
    Timeout,
)
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.text.terminal import show


def serve(
    model: AskModel = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8765,
    token: Annotated[bool, typer.Option(help="Let in only who has the address with its token.")] = True,
    limit: Annotated[int, typer.Option(help="Largest upload in MB.", min=1)] = 200,
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
    emotion_question: EmotionQuestionOption = None,
    emotion_answer: EmotionAnswerOption = None,
    max_new_tokens: Tokens = 128,
    device: Device = "auto",
    precision: Precision = "auto",
    system: System = None,
) -> None:
    """Open a local page to ask about clips.

    Drop a clip, ask, and see what the answer depends on.

    The page answers under 127.0.0.1 alone. Clips are kept in a private folder until they are answered. Ctrl-C ends it.
    """
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
        emotion_question=emotion_question,
        emotion_answer=emotion_answer,
        max_new_tokens=max_new_tokens,
        device=device,
        precision=precision,
        system=system,
    )

    from avem.tools.ask.serve.server import serving
    from avem.tools.ask.session import open_session
    from avem.tools.ask.usual import IN_FIELD, with_usual_question

    def end(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    options, why = with_usual_question(options, sentence=IN_FIELD)
    signal.signal(signal.SIGTERM, end)
    with serving(
        open_session(options), options.question, why=why, port=port, limit_bytes=limit * 1_000_000, token=token
    ) as server:
        # Not `show`, which would hide the token as a secret: this is the one place where it has to be read.
        typer.echo(f"Open {server.guard.url} ; Ctrl-C ends it.")
        show(f"Question: {options.question}")
        for sentence in why:
            show(sentence)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            show("Ended.")
