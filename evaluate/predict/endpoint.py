"""A model behind an OpenAI-compatible endpoint, shown a clip as frames and sound in the messages' parts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from avem.endpoint.chat import ChatClient, ChatRequest, ChatSettings, ask_each
from avem.endpoint.media_parts import JPEG_QUALITY, LONG_SIDE, image_part, scaled, sound_part
from avem.errors import EndpointError, MediaError
from avem.evaluate.predict.media_model import FRAMES, ClipMedia, MediaRequest, Take
from avem.evaluate.predict.predictor import STREAMS, Answer
from avem.guards.secrets import mask


class EndpointModel:
    """A model behind an endpoint; several requests are in flight at once.

    Args:
        settings: Address, model, timeout and retries.
        frames: Frames of a clip that are sent.
        sees: What is sent: `video` for frames as images, `audio` for sound; not every server takes sound.
        system: The system message; empty for none.
    """

    methods: tuple[str, ...] = ("generation",)

    def __init__(
        self, settings: ChatSettings, frames: int = FRAMES, sees: Sequence[str] = STREAMS, system: str = ""
    ) -> None:
        self.settings, self.frames, self.sees = settings, frames, tuple(sees)
        self.system = system
        self.source = mask(f"{settings.model} at {settings.endpoint}")

    def identity(self) -> dict[str, Any]:
        """Address, model and how frames are sent; timeout and retries change no answer."""
        known = {"endpoint": self.settings.identity, "model": self.settings.model}
        system = {"system": self.system} if self.system else {}
        return {**known, "frames": self.frames, "long_side": LONG_SIDE, "jpeg_quality": JPEG_QUALITY, **system}

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
                yield request.key, ChatRequest(messages(request.text, media, self.system), request.max_new_tokens)

        async with ChatClient(self.settings) as client:
            async for key, reply in ask_each(client, prepared()):
                if isinstance(reply, EndpointError):
                    failed[key] = str(reply)
                else:
                    take(key, Answer(reply=reply.text))
        return failed


def messages(text: str, media: ClipMedia, system: str = "") -> list[dict[str, Any]]:
    """A user message, after the system message if there is one: frames as images, sound as WAV, then the text."""
    frames = media.frames if media.frames is not None else ()
    parts = [image_part(scaled(Image.fromarray(frame))) for frame in frames]
    if media.samples is not None:
        parts.append(sound_part(media.samples))
    said = [{"role": "system", "content": system}] if system else []
    return [*said, {"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
