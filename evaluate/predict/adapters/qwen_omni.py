"""Qwen2.5-Omni and Qwen3-Omni, their thinkers alone: video and sound in, text out."""

from __future__ import annotations

from typing import Any

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.media_model import ClipMedia
from avem.records import RATE_HZ


class Qwen25Omni(Adapter):
    """Qwen2.5-Omni. A clip's sound is interleaved with its frames in time, as in the vendor's example."""

    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"
    system = (
        "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and "
        "visual inputs, as well as generating text and speech."
    )

    def media_parts(self, media: ClipMedia) -> list[dict[str, Any]]:
        """A clip with sound is one part: the processor puts the sound between the frames."""
        return [{"type": "video"}] if _both(media) else super().media_parts(media)

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Frames as one video that is not sampled again, at their times in the clip; sound at 16 kHz."""
        given: dict[str, Any] = {}
        if media.frames is not None:
            given |= {"videos": [media.frames], "do_sample_frames": False, "fps": media.frames_per_s or 2.0}
        if media.samples is not None:
            given |= {"audio": [media.samples], "sampling_rate": RATE_HZ}
        if _both(media):
            given |= {"load_audio_from_video": True, "audio_from_video_indices": [0]}
        return given

    def model_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Whether positions are those of interleaved sound."""
        return {"use_audio_in_video": True} if _both(media) else {}


class Qwen3Omni(Qwen25Omni):
    """Qwen3-Omni; the vendor's example has no system message."""

    model_class = "Qwen3OmniMoeThinkerForConditionalGeneration"
    system = ""


def _both(media: ClipMedia) -> bool:
    return media.frames is not None and media.samples is not None
