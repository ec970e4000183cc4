"""Gemma 3n: frames as images and sound in, text out."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia
from avem.records import RATE_HZ


class Gemma3n(Adapter):
    """Gemma 3n: frames as images and sound in, text out."""

    model_class = "Gemma3nForConditionalGeneration"
    system = "You are a helpful assistant."

    def media_parts(self, media: ClipMedia) -> list[dict[str, Any]]:
        """Every frame as an image, then the sound."""
        frames = [] if media.frames is None else [{"type": "image"}] * len(media.frames)
        return [*frames, *([] if media.samples is None else [{"type": "audio"}])]

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as images, sound at 16 kHz."""
        given: dict[str, Any] = {}
        if media.frames is not None:
            given["images"] = [list(media.frames)]
        if media.samples is not None:
            given |= {"audio": [media.samples], "sampling_rate": RATE_HZ}
        return given
