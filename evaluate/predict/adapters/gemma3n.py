"""Gemma 3n: frames as images and sound in, text out."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia
from avem.records import RATE_HZ


class Gemma3n(Adapter):
    """Gemma 3n: frames as images and sound in, text out. Its processor cuts sound after 30 seconds."""

    model_class = "Gemma3nForConditionalGeneration"

    @classmethod
    def ready(cls) -> None:
        """Import torchvision, and timm, which has the vision tower.

        Raises:
            ImportError: One of them is not installed, or does not fit.
        """
        super().ready()
        import_module("timm")

    def media_parts(self, media: ClipMedia) -> list[dict[str, Any]]:
        """An image a frame, then the sound."""
        frames = 0 if media.frames is None else len(media.frames)
        return [{"type": "image"}] * frames + [{"type": "audio"}] * (media.samples is not None)

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as images, sound at 16 kHz."""
        given: dict[str, Any] = {}
        if media.frames is not None:
            given["images"] = list(media.frames)
        if media.samples is not None:
            given |= {"audio": [media.samples], "sampling_rate": RATE_HZ}
        return given
