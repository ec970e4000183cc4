"""Media to features: dataset readers, decoding, encoders, and the pipeline that fills a store.

Names load on first use, because the decoding workers import this package and must not pay for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.extract.encoders import AudioEncoder, VideoEncoder, load_audio_encoder, load_video_encoder

_HOMES = {
    "AudioEncoder": "encoders",
    "VideoEncoder": "encoders",
    "load_audio_encoder": "encoders",
    "load_video_encoder": "encoders",
}

__all__ = ["AudioEncoder", "VideoEncoder", "load_audio_encoder", "load_video_encoder"]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"avem.extract.{_HOMES[name]}"), name)
