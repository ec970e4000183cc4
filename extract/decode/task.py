"""One clip's work for a decoding worker, and what comes back; without decoders, which the parent never loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from avem.extract.decode.wants import Pictures


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
    """What to decode: pictures, sound; or `length` alone, which decodes nothing and says how long the clip is."""
    pictures: tuple[Pictures, ...] = ()
    """Which frames, and in which form, for each encoder of pictures."""
    samples: int = 480000
    """Samples that the encoders of sound take; more are not sent."""
    decoder: str = "pyav"
    """`pyav` or `decord`."""
    span: tuple[float, float] | None = None
    """Part of the clip, in seconds after its first frame; None is all frames and the first 30 s of sound."""


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """What a worker made of a task; a stream that failed is None and has its error."""

    pictures: tuple[npt.NDArray[Any], ...] | None = None
    """For each of the task's `pictures`, what its `prepare` made of the frames."""
    video_error: str = ""
    sound: npt.NDArray[np.float32] | None = None
    """float32 [samples] at 16 kHz."""
    sound_error: str = ""
    duration_s: float | None = None
    """Length of the picture as it was decoded; None where it was not, or could not be. The task `length` gives the
    clip's by its packets."""
    sound_duration_s: float | None = None
    """Length of all the sound in the file, also of what was cut off; None where it was not decoded."""
    fps: float | None = None
    total_frames: int | None = None
    """Frames that were decoded, of the whole clip or of the span."""
    has_audio: bool | None = None
    """Whether there is a sound stream, by the header; None where it can't be read."""
    silent: bool | None = None
    """Whether all decoded sound is zero; None where none was decoded."""
    seconds: float = 0.0
    """Time the worker took."""


STREAM_ORDER = ("length", "video", "audio")
"""In which a worker decodes a clip's streams."""


def remaining_streams(task: DecodeTask, done: int) -> tuple[str, ...]:
    """The streams of a task after the first `done`, in the order in which they are decoded."""
    return tuple(name for name in STREAM_ORDER if name in task.wants)[done:]


def merge_parts(parts: Sequence[DecodedClip]) -> DecodedClip:
    """One answer from those of single streams: of each field the first that is given; times add up."""
    given = {
        field.name: value
        for field in fields(DecodedClip)
        for value in reversed([getattr(part, field.name) for part in parts])
        if value is not None and not (isinstance(value, str) and not value)
    }
    return DecodedClip(**{**given, "seconds": sum(part.seconds for part in parts)})
