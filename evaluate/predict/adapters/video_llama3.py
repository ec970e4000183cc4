"""VideoLLaMA3: video in, text out; every frame follows its time in words."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia


class VideoLlama3(Adapter):
    """VideoLLaMA3: video in, text out; every frame follows its time in words."""

    model_class = "VideoLlama3ForConditionalGeneration"
    sees = ("video",)
    system = "You are a helpful assistant."

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as one video that is not sampled again, at their times in the clip."""
        return {} if media.frames is None else {"videos": [media.frames], **self.video_metadata(media)}
