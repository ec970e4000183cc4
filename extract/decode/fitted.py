"""Frames resized as Qwen's video processor does, without torchvision: the same call of torch that it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avem.errors import MediaError
from avem.extract.decode.decoded import Frames

WIDEST = 200
"""Longest side over the shortest that the processor takes."""
CONTEXT_TOKENS, CONTEXT_SHARE = 128_000, 0.9
"""The capped budget: all frames of a clip together may take this share of so many tokens' pixels."""
FLOOR = 1.05
"""Over the smallest frame; the cap never asks for less."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Frames resized to whole patches within a budget of pixels, uint8 [T, h, w, 3].

    Sides become multiples of `factor`; the ratio of the sides is kept as nearly as that allows.
    """

    factor: int
    """Pixels of a token's side: patch size times merge size."""
    min_pixels: int
    max_pixels: int
    """Of one frame, and so of one slot of two frames, which share their tokens."""
    cap: bool = True
    """Whether long clips get smaller frames, so that a clip stays below a bound (`cap_pixels_per_frame`)."""
    slot_frames: int = 2

    def size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Height and width of a clip's frames after resizing.

        Raises:
            MediaError: The frames are too narrow for the processor.
        """
        if max(height, width) > WIDEST * min(height, width):
            raise MediaError(
                f"Its frames of {width} x {height} pixels are too narrow: one side is over {WIDEST} times the other."
            )
        most = self.max_pixels
        if self.cap:
            all_pixels = int(CONTEXT_TOKENS * self.factor * self.factor * CONTEXT_SHARE)
            most = max(min(most, all_pixels * self.slot_frames // frames), int(self.min_pixels * FLOOR))
        factor = self.factor
        tall, wide = round(height / factor) * factor, round(width / factor) * factor
        if tall * wide > most:
            scale = math.sqrt(height * width / most)
            tall = max(factor, math.floor(height / scale / factor) * factor)
            wide = max(factor, math.floor(width / scale / factor) * factor)
        elif tall * wide < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            tall = math.ceil(height * scale / factor) * factor
            wide = math.ceil(width * scale / factor) * factor
        return tall, wide

    def __call__(self, frames: Frames) -> Frames:
        """Resize with torch's bicubic filter for bytes, which torchvision calls on a CPU.

        Args:
            frames: uint8 [T, H, W, 3].

        Raises:
            MediaError: The frames are too narrow for the processor.
        """
        import torch
        from torch.nn import functional

        size = self.size(len(frames), *frames.shape[1:3])
        if size == frames.shape[1:3]:
            return np.ascontiguousarray(frames)
        planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(
            0, 3, 1, 2
        )  # [T, 3, H, W], colours last in memory
        resized = functional.interpolate(planes, size, mode="bicubic", align_corners=False, antialias=True)
        return np.ascontiguousarray(resized.numpy().transpose(0, 2, 3, 1))

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Tokens of a clip after the merger: those of a slot times the slots."""
        tall, wide = self.size(frames, height, width)
        return -(-frames // self.slot_frames) * (tall // self.factor) * (wide // self.factor)
