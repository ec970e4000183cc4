"""Qwen3-VL: video in, text out; every pair of frames follows its time in words."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia


class Qwen3VL(Adapter):
    """Qwen3-VL: video in, text out; every pair of frames follows its time in words."""

    model_class = "Qwen3VLForConditionalGeneration"
    sees = ("video",)

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as one video that is not sampled again, at their times in the clip."""
        return {} if media.frames is None else {"videos": [media.frames], **self.video_metadata(media)}
