"""Qwen2.5-Omni, its thinker alone: video and sound in, text out."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia
from avem.records import RATE_HZ


class Qwen25Omni(Adapter):
    """Qwen2.5-Omni, its thinker alone: video and sound in, text out."""

    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as one video that is not sampled again; sound at 16 kHz."""
        given: dict[str, Any] = {}
        if media.frames is not None:
            given |= {"videos": [media.frames], "do_sample_frames": False}
        if media.samples is not None:
            given |= {"audio": [media.samples], "sampling_rate": RATE_HZ}
        return given
