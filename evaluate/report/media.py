"""Pictures of a clip for a page that needs no network: a strip of frames and the sound's outline."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avem.errors import MediaError
from avem.extract import read_waveform, sample_frames
from avem.guards.inside import is_inside, media_file

FRAMES = 4
FRAME_HEIGHT = 108
"""Pixels; the strip is shown at most this high."""
JPEG_QUALITY = 72
WAVE_BINS = 180


@dataclass(frozen=True, slots=True)
class ClipPicture:
    """What the page shows of a clip; empty where a stream is missing or can't be decoded."""

    strip: str = ""
    """Data URI of a JPEG of `FRAMES` frames side by side."""
    width: int = 0
    height: int = 0
    wave: str = ""
    """SVG path data in a box of `WAVE_BINS` by 2, centred on 1: the sound's lowest and highest sample of each bin."""


def find_media(path: str, roots: Sequence[Path], media: Path | None = None) -> Path | None:
    """A clip's file under the first root that has it; a path that leads out of a root is in none.

    Args:
        path: The clip's path.
        roots: Folders that it may be relative to.
        media: The folder that `--media` names, which comes first; see `avem.guards.inside.media_file`.
    """
    if media is not None and is_inside(media, path) and (file := media_file(media, path)).is_file():
        return file
    return next((root / path for root in roots if is_inside(root, path) and (root / path).is_file()), None)


def picture(path: Path | None) -> ClipPicture:
    """Decode a clip's strip and sound outline; a stream that can't be decoded is left out."""
    if path is None:
        return ClipPicture()
    strip, width, height, wave = "", 0, 0, ""
    with suppress(MediaError):
        strip, width, height = frame_strip(sample_frames(path, FRAMES))
    with suppress(MediaError):
        wave = wave_path(read_waveform(path))
    return ClipPicture(strip, width, height, wave)


def frame_strip(frames: NDArray[np.uint8]) -> tuple[str, int, int]:
    """Frames side by side as a JPEG.

    Args:
        frames: uint8 [T, H, W, 3], RGB.

    Returns:
        A data URI, and the picture's width and height in pixels.
    """
    _, height, width, _ = frames.shape
    size = (max(1, round(width * FRAME_HEIGHT / height)), FRAME_HEIGHT)
    strip = Image.new("RGB", (size[0] * len(frames), FRAME_HEIGHT))
    for number, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (number * size[0], 0))
    sink = io.BytesIO()
    strip.save(sink, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}", strip.width, strip.height


def wave_path(samples: NDArray[np.float32]) -> str:
    """The outline of a sound, scaled to its own peak.

    Args:
        samples: float32 [samples], mono.

    Returns:
        SVG path data; see `ClipPicture.wave`. Empty for an empty sound.
    """
    if not len(samples):
        return ""
    bins = [part for part in np.array_split(samples, min(WAVE_BINS, len(samples))) if len(part)]
    peak = max(float(np.abs(samples).max()), 1e-4)
    points = [(0.5 + x, 1 - part.max() / peak, 1 - part.min() / peak) for x, part in enumerate(bins)]
    return "".join(f"M{x:.1f} {high:.2f}V{max(low, high + 0.01):.2f}" for x, high, low in points)
