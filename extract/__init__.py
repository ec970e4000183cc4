"""Media to features: dataset readers, decoding, encoders, and the pipeline that fills a store.

Names load on first use, because the decoding workers import this package and must not pay for torch.

Example:
    >>> from avem.extract import ExtractOptions
    >>> ExtractOptions(dtype="int8", streams=("audio",)).encoder("audio")
    'openai/whisper-large-v3'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.extract.datasets import read_dataset
    from avem.extract.decode.media import probe, read_waveform, sample_frames
    from avem.extract.encoders.registry import AudioEncoder, VideoEncoder, load_audio_encoder, load_video_encoder
    from avem.extract.options import ExtractOptions, ExtractReport
    from avem.extract.pipeline import extract
    from avem.extract.ray_data import read_clips

__all__ = [
    "AudioEncoder",
    "ExtractOptions",
    "ExtractReport",
    "VideoEncoder",
    "extract",
    "load_audio_encoder",
    "load_video_encoder",
    "probe",
    "read_clips",
    "read_dataset",
    "read_waveform",
    "sample_frames",
]

_MODULES = {
    "datasets": ("read_dataset",),
    "encoders.registry": ("AudioEncoder", "VideoEncoder", "load_audio_encoder", "load_video_encoder"),
    "decode.media": ("probe", "read_waveform", "sample_frames"),
    "options": ("ExtractOptions", "ExtractReport"),
    "pipeline": ("extract",),
    "ray_data": ("read_clips",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"avem.extract.{_HOMES[name]}"), name)
