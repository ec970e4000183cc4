"""One clip's work for a decoding worker, and what comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avem.errors import MediaError
from avem.extract.media import Samples, read_sound, read_video
from avem.extract.pixels import preprocess_frames


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """Which streams of which files to decode, and how."""

    row: int
    """The clip's row in the store."""
    video_path: str | None
    """None where the video stream is not wanted."""
    sound_path: str | None
    """None where the sound is not wanted."""
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
    sound: Samples | None = None
    """float32 [samples] at 16 kHz."""
    sound_error: str = ""
    duration_s: float | None = None
    fps: float | None = None
    total_frames: int | None = None
    has_audio: bool | None = None
    fallbacks: tuple[str, ...] = ()
    """Streams that PyAV decoded because decord could not."""
    seconds: float = 0.0
    """Time the worker took."""


def decode_clip(task: DecodeTask) -> DecodedClip:
    """Decode and preprocess a clip; a stream that can't be decoded is an entry, not an exception."""
    start = time.perf_counter()
    pixels = sound = duration_s = fps = total = has_audio = None
    video_error = sound_error = ""
    fallbacks = []
    if task.sound_path is not None:
        try:
            decoded_sound = read_sound(task.sound_path)
            sound, duration_s = decoded_sound.samples[: task.samples], decoded_sound.duration_s
            has_audio = True
            fallbacks += ["audio"] * (decoded_sound.decoder == "pyav")
        except MediaError as error:
            sound_error = _without_folder(error, task.sound_path)
            has_audio = False if "no audio stream" in sound_error else None
    if task.video_path is not None:
        try:
            decoded = read_video(task.video_path, task.frames)
            pixels = preprocess_frames(decoded.frames, task.size)
            fps, total = decoded.fps, decoded.total
            duration_s = total / fps if fps else duration_s
            fallbacks += ["video"] * (decoded.decoder == "pyav")
        except MediaError as error:
            video_error = _without_folder(error, task.video_path)
    seconds = time.perf_counter() - start
    return DecodedClip(
        pixels, video_error, sound, sound_error, duration_s, fps, total, has_audio, tuple(fallbacks), seconds
    )


def _without_folder(error: MediaError, path: str) -> str:
    """The error's sentence with the file's name alone, so that a store does not depend on where its clips were."""
    return str(error).replace(path, Path(path).name)
