"""Media as parts of a chat message: a frame as a JPEG, sound as a WAV file."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from avem.records import RATE_HZ

Part = dict[str, Any]

JPEG_QUALITY = 85
LONG_SIDE = 512
"""Larger frames are scaled down to this many pixels on their longer side."""


def scaled(image: Image.Image, longest_side: int = LONG_SIDE) -> Image.Image:
    """A copy of an image, scaled down so that its longer side has at most `longest_side` pixels."""
    image = image.copy()
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return image


def image_part(image: Image.Image) -> Part:
    """An RGB image, already scaled, as a message part with the data URI of a JPEG."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=JPEG_QUALITY)
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(sink.getvalue())}"}}


def sound_part(samples: npt.NDArray[np.float32]) -> Part:
    """Sound as a message part with a 16-bit WAV file.

    Args:
        samples: float32 [samples], mono at 16 kHz; values beyond -1 and 1 are clipped.
    """
    return {"type": "input_audio", "input_audio": {"data": _base64(wav_bytes(samples)), "format": "wav"}}


def wav_bytes(samples: npt.NDArray[np.float32]) -> bytes:
    """The content of a 16-bit WAV file.

    Args:
        samples: float32 [samples], mono at 16 kHz; values beyond -1 and 1 are clipped.
    """
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return sink.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
