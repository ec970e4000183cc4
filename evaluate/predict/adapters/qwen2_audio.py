"""Qwen2-Audio: sound in, text out."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia
from avem.records import RATE_HZ


class Qwen2Audio(Adapter):
    """Qwen2-Audio: sound in, text out."""

    model_class = "Qwen2AudioForConditionalGeneration"
    sees = ("audio",)
    system = "You are a helpful assistant."

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Sound at 16 kHz."""
        return {} if media.samples is None else {"audio": [media.samples], "sampling_rate": RATE_HZ}
