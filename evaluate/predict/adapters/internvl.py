"""InternVL 3 and 3.5 in transformers' own layout: video in, text out."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia


class InternVL(Adapter):
    """InternVL 3 and 3.5 in transformers' own layout: video in, text out."""

    model_class = "InternVLForConditionalGeneration"
    sees = ("video",)

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as one video that is not sampled again."""
        return {} if media.frames is None else {"videos": [media.frames], "do_sample_frames": False}
