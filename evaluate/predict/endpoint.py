"""A model behind an OpenAI-compatible endpoint, shown a clip as frames and sound in the messages' parts."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from avem.endpoint.chat import ChatClient, ChatRequest, ChatSettings, ask_each
from avem.errors import EndpointError, MediaError
from avem.evaluate.predict.media_model import FRAMES, ClipMedia, MediaRequest, Take
from avem.evaluate.predict.predictor import STREAMS, Answer
from avem.extract.decode.decoded import RATE_HZ
from avem.guards.secrets import mask

LONG_SIDE = 512
"""Frames are scaled down to this many pixels on their longer side."""
JPEG_QUALITY = 85


class EndpointModel:
    """A model behind an endpoint; several requests are in flight at once.

    Args:
        settings: Address, model, timeout and retries.
        frames: Frames of a clip that are sent.
        sees: What is sent: `video` for frames as images, `audio` for sound; not every server takes sound.
    """

    methods: tuple[str, ...] = ("generation",)

    def __init__(self, settings: ChatSettings, frames: int = FRAMES, sees: Sequence[str] = STREAMS) -> None:
        self.settings, self.frames, self.sees = settings, frames, tuple(sees)
        self.source = mask(f"{settings.model} at {settings.endpoint}")

    def identity(self) -> dict[str, Any]:
        """Address, model and how frames are sent; timeout and retries change no answer."""
        known = {"endpoint": self.settings.identity, "model": self.settings.model}
        return {**known, "frames": self.frames, "long_side": LONG_SIDE, "jpeg_quality": JPEG_QUALITY}

    def predict(self, requests: Sequence[MediaRequest], take: Take) -> dict[str, str]:
        """Send all requests; each answer is taken as it arrives, so that a later failure loses none.

        Raises:
            EndpointError: Every further request would fail too.
        """
        return asyncio.run(self._predict_all(requests, take)) if requests else {}

    async def _predict_all(self, requests: Sequence[MediaRequest], take: Take) -> dict[str, str]:
        failed: dict[str, str] = {}

        def prepared() -> Iterator[tuple[str, ChatRequest]]:
            for request in requests:
                try:
                    media = request.media(self.frames)
                except MediaError as error:
                    failed[request.key] = str(error)
                    continue
                yield request.key, ChatRequest(messages(request.text, media), request.max_new_tokens)

        async with ChatClient(self.settings) as client:
            async for key, reply in ask_each(client, prepared()):
                if isinstance(reply, EndpointError):
                    failed[key] = str(reply)
                else:
                    take(key, Answer(reply=reply.text))
        return failed


def messages(text: str, media: ClipMedia) -> list[dict[str, Any]]:
    """One user message: frames as images, sound as WAV, then the text."""
    parts: list[dict[str, Any]] = []
    for frame in media.frames if media.frames is not None else ():
        parts.append({"type": "image_url", "image_url": {"url": jpeg_uri(frame)}})
    if media.samples is not None:
        parts.append({"type": "input_audio", "input_audio": {"data": wav_base64(media.samples), "format": "wav"}})
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def jpeg_uri(frame: npt.NDArray[np.uint8]) -> str:
    """A frame, uint8 [H, W, 3], as the data URI of a JPEG."""
    image = Image.fromarray(frame)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def wav_base64(samples: npt.NDArray[np.float32]) -> str:
    """Sound, float32 [samples] at 16 kHz, as a 16-bit WAV file in base64."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return base64.b64encode(sink.getvalue()).decode()
