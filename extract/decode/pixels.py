"""Frames to pixels as the encoders expect them, without torch so that decoding workers start fast."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from avem.errors import MediaError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of each colour channel, OpenAI CLIP."""
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of each colour channel, OpenAI CLIP."""

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@lru_cache(maxsize=64)
def _taps(length: int, target: int, size: int) -> tuple[Indices, Indices, Floats]:
    """Where each of the `size` middle output samples out of `target` reads its input axis of `length` samples.

    Sample centres are half a pixel in (align_corners=False), shrinking does not smooth (no antialias), and positions
    are computed in float32, all as PyTorch does.

    Returns:
        Lower and upper input index and the upper one's share, each [size].
    """
    start = round((target - size) / 2.0)
    wanted = np.arange(start, start + size, dtype=np.float32)
    ratio = np.float32(length) / np.float32(target)
    position = np.maximum((wanted + np.float32(0.5)) * ratio - np.float32(0.5), np.float32(0.0))
    low = np.minimum(position.astype(np.int64), length - 1)
    return low, np.minimum(low + 1, length - 1), position - low.astype(np.float32)


def _scaled_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width once the short side is `size` pixels; the long side is rounded down."""
    if height <= width:
        return size, math.floor(width / height * size)
    return math.floor(height / width * size), size


def preprocess_frames(frames: npt.NDArray[np.uint8], size: int) -> Floats:
    """Scale, normalise and crop frames: short side to `size` (bilinear), CLIP mean and std, centre crop.

    The reference normalises before it scales; scaling is linear with weights that sum to 1, so the order changes
    nothing but rounding, and this one touches fewer pixels. No random flip: a feature has one value.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        size: Side S of the square that the encoder sees, in pixels.

    Returns:
        float32 [3, T, S, S].

    Raises:
        MediaError: `frames` is not a uint8 array of that shape, or holds no pixels.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise MediaError(f"Frames must be uint8 [T, H, W, 3] with pixels, not {frames.dtype} {list(frames.shape)}.")
    height, width = frames.shape[1:3]
    scaled_height, scaled_width = _scaled_size(height, width, size)
    top, bottom, down = _taps(height, scaled_height, size)
    left, right, across = _taps(width, scaled_width, size)
    x = _blend(frames[:, top], frames[:, bottom], down[:, None, None])  # [T, S, W, 3]
    x = _blend(x[:, :, left], x[:, :, right], across[:, None])  # [T, S, S, 3]
    normalised = (x / np.float32(255.0) - np.asarray(CLIP_MEAN, np.float32)) / np.asarray(CLIP_STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(3, 0, 1, 2), dtype=np.float32)


def preprocess_square(frame: npt.NDArray[np.uint8], size: int) -> Floats:
    """Scale one frame to a square, whatever its aspect, as Emotion-LLaMA does: bicubic, rounded to whole levels.

    Pillow's bicubic smooths while it shrinks, which PyTorch's does not unless asked to.

    Args:
        frame: uint8 [H, W, 3], RGB.
        size: Side S of the square that the encoder sees, in pixels.

    Returns:
        float32 [3, S, S] with CLIP's mean and standard deviation.

    Raises:
        MediaError: `frame` is not a uint8 array of that shape, or holds no pixels.
    """
    from PIL import Image

    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3 or 0 in frame.shape:
        raise MediaError(f"A frame must be uint8 [H, W, 3] with pixels, not {frame.dtype} {list(frame.shape)}.")
    scaled = Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC)
    x = np.asarray(scaled, np.float32) / np.float32(255.0)  # [S, S, 3]
    normalised = (x - np.asarray(CLIP_MEAN, np.float32)) / np.asarray(CLIP_STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)


def _blend(low: npt.NDArray[Any], high: npt.NDArray[Any], share: Floats) -> Floats:
    blended: Floats = (np.float32(1.0) - share) * low + share * high
    return blended
