"""Qwen2.5-VL: video in, text out. Its chat template adds the default system message."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia


class Qwen25VL(Adapter):
    """Qwen2.5-VL: video in, text out. Its chat template adds the default system message."""

    model_class = "Qwen2_5_VLForConditionalGeneration"
    sees = ("video",)

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as one video that is not sampled again, at their times in the clip."""
        return {} if media.frames is None else {"videos": [media.frames], **self.video_metadata(media)}
