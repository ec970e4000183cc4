"""What decoding gives: records and array types, apart from every decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avem.records import RATE_HZ as RATE_HZ

Frames = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

MIN_SOUND_S = 1
"""Shorter sound is padded with zeros to this length."""
MAX_SOUND_S = 30
"""Longer sound is cut, unless a span asks for another part."""
WHOLE_SHARE = 0.9
"""A file of which less than this share is there, or can be decoded, is damaged."""
TIME_LIMIT_S = 300.0
"""A stream that takes longer to decode counts as failed."""

Span = tuple[float, float]
"""Start and end of a part of a clip, in seconds after its first frame."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a container says about its clip."""

    duration_s: float
    fps: float
    """Mean frame rate; 0 where there is no video stream."""
    frames: int
    """0 where there is no video stream."""
    has_audio: bool
    height: int = 0
    """Pixels, as they are stored: a film that is shown upright by its display matrix has the other order."""
    width: int = 0


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """Sampled frames and what decoding told about the video stream."""

    frames: Frames
    """uint8 [T, H, W, 3], RGB."""
    total: int
    """Frames that the clip, or the span of it, has."""
    fps: float
    """Frames a second, from the frames' own times; of a single frame, what the container says."""
    decoder: str
    """`pyav` or `decord`."""
    duration_s: float = 0.0
    """From the first frame to the end of the last."""
    lost: int = 0
    """Packets that could not be decoded, whose frames are missing."""


@dataclass(frozen=True, slots=True)
class DecodedSound:
    """Sound and what decoding told about it."""

    samples: Samples
    """float32 [samples] at 16 kHz, mono; 1 to 30 s, or as long as the span."""
    duration_s: float
    """Length of all the sound in the file before padding, cutting and choosing a span, from the first frame on."""
    decoder: str
    """`pyav` or `decord`."""
    silent: bool = False
    """Whether every sample is zero."""
    lost: int = 0
    """Packets that could not be decoded, which are silence here."""


def frame_ids(total: int, count: int) -> Indices:
    """Indices of `count` frames spread over a clip of `total`, truncated to whole numbers, int64 [count]."""
    return np.linspace(0, total - 1, count).astype(np.int64)
