"""What is sent of a clip: its sound as a WAV file, and frames as pictures, in the parts of a chat message."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from avem.errors import DataError, MediaError
from avem.extract.decode.media import RATE_HZ, read_waveform, sample_frames
from avem.guards.inside import inside
from avem.records import Clip, Modality

Parts = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """How clips are shown."""

    frames: int = 8
    """Frames spread evenly over the clip (B.1)."""
    longest_side: int = 512
    """Larger frames are scaled down to this, in pixels."""
    blur_captions: float = 0.0
    """Share of the frame's height, from the bottom, blurred so that burnt-in captions can't be read; 0: none."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Media that belong to a request, decoded when it is sent."""

    identity: str
    """Tells it from any other without reading the file: clip, size in bytes, and how it is shown."""
    load: Callable[[], Parts]
    """Decodes; raises `MediaError`."""


def attachment(clip: Clip, root: Path, side: Modality, options: MediaOptions) -> Attachment:
    """A clip's sound or frames.

    The identity holds the file's size but neither its path nor its date, so that a dataset that was moved or copied
    is not paid for again.

    Args:
        clip: The clip.
        root: The dataset's folder.
        side: `AUDIO` or `VISUAL`.
        options: How it is shown.
    """
    sound = side == Modality.AUDIO
    name = (clip.audio_path or clip.path) if sound else clip.path
    path, fault = root / name, ""
    try:
        inside(root, name, clip.clip_id)
    except DataError as error:
        fault = str(error)
    size = path.stat().st_size if not fault and path.is_file() else 0
    shown = "" if sound else f" {options.frames} frames {options.longest_side} px blur {options.blur_captions:g}"

    def load() -> Parts:
        if fault:
            raise MediaError(fault)
        return sound_parts(path) if sound else frame_parts(path, options)

    return Attachment(f"{clip.clip_id} {side} {size} bytes{shown}", load)


def sound_parts(path: Path) -> Parts:
    """A file's sound, 1 to 30 s, as 16-bit mono WAV at 16 kHz.

    Raises:
        MediaError: It has no readable sound.
    """
    samples = np.round(np.clip(read_waveform(path), -1, 1) * 32767).astype("<i2")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())
    return [{"type": "input_audio", "input_audio": {"data": _base64(data.getvalue()), "format": "wav"}}]


def frame_parts(path: Path, options: MediaOptions) -> Parts:
    """Frames spread over a clip, in order, as JPEG.

    Raises:
        MediaError: It has no readable video.
    """
    parts: Parts = []
    for pixels in sample_frames(path, options.frames):
        data = io.BytesIO()
        show_frame(Image.fromarray(pixels), options).save(data, "JPEG", quality=90)
        url = f"data:image/jpeg;base64,{_base64(data.getvalue())}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def show_frame(image: Image.Image, options: MediaOptions) -> Image.Image:
    """A frame as it is shown: scaled down, and its lower part blurred if asked for."""
    image = image.copy()
    image.thumbnail((options.longest_side, options.longest_side))
    if options.blur_captions > 0:
        band = (0, round(image.height * (1 - options.blur_captions)), image.width, image.height)
        radius = max(image.height / 30, 4)  # about half a caption's letters, which leaves none of them legible
        image.paste(image.crop(band).filter(ImageFilter.GaussianBlur(radius)), band[:2])
    return image


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
