"""Phi-4-multimodal: frames as images and sound in, text out."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia
from avem.records import RATE_HZ


class Phi4Multimodal(Adapter):
    """Phi-4-multimodal: frames as images and sound in, text out."""

    model_class = "Phi4MultimodalForCausalLM"

    def prompt(self, text: str, media: ClipMedia) -> str:
        """The chat as the vendor's example writes it: the processor has no template of its own."""
        frames = 0 if media.frames is None else len(media.frames)
        shown = self.processor.image_token * frames
        shown += "" if media.samples is None else self.processor.audio_token
        system = f"<|system|>{self.system}<|end|>" if self.system else ""
        return f"{system}<|user|>{shown}{text}<|end|><|assistant|>"

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as images, sound at 16 kHz."""
        given: dict[str, Any] = {}
        if media.frames is not None:
            given["images"] = list(media.frames)
        if media.samples is not None:
            given |= {"audio": [media.samples], "sampling_rate": RATE_HZ}
        return given
