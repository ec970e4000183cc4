"""One clip's work for a decoding worker, and what comes back; without decoders, which the parent never loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """Which streams of which files to decode, and how."""

    row: int
    """The clip's row in the store."""
    path: str
    """The media file."""
    sound_path: str
    """The file that has its sound, mostly the same one."""
    wants: tuple[str, ...] = ("video", "audio")
    """Streams to decode."""
    frames: int = 8
    """T, frames to sample."""
    size: int = 224
    """S, side of the square that the video encoder sees, in pixels."""
    samples: int = 480000
    """Samples that the audio encoder hears; more are not sent."""


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """What a worker made of a task; a stream that failed is None and has its error."""

    pixels: npt.NDArray[np.float32] | None = None
    """float32 [3, T, S, S], normalised."""
    video_error: str = ""
    sound: npt.NDArray[np.float32] | None = None
    """float32 [samples] at 16 kHz."""
    sound_error: str = ""
    duration_s: float | None = None
    fps: float | None = None
    total_frames: int | None = None
    has_audio: bool | None = None
    """These four are what the file's header says, whichever streams were decoded; None where it can't be read."""
    fallbacks: tuple[str, ...] = ()
    """Streams that PyAV decoded because decord could not."""
    seconds: float = 0.0
    """Time the worker took."""
