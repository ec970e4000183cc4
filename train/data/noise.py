"""Rejected inputs that no clip has: random tensors, and a clip's own features under noise (Table 17).

A spec names them by a negative number instead of a store row, so that they are cached, packed and keyed like clips.
The noise is added to features, since encoders are not in the loop; the paper adds it to frames and sound, as VCD does
(Leng et al., 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from avem.seeds import draw

NOISE_RECIPES = ("random-tensor", "diffused")
"""Recipes of rejected inputs that are noise made while training, not mined clips."""
SIGNAL_SHARE = 0.1
"""What is left of the variance after diffusion; it is about this half-way through VCD's 1000 steps of noise."""


def noise_row(row: int) -> int:
    """The number that stands for a store row's features under noise; its own inverse."""
    return -1 - row


@dataclass(frozen=True, slots=True)
class FeatureNoise:
    """Makes the features that negative numbers stand for."""

    recipe: str
    """One of `NOISE_RECIPES`."""
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe} {self.seed}"

    def __call__(self, kind: str, row: int, features: Tensor) -> Tensor:
        """Put noise on a clip's features.

        Args:
            kind: `video` or `audio`.
            row: The clip's store row; with the seed it decides the noise.
            features: float, any shape.

        Returns:
            The same shape and type. Random tensors keep the clip's mean and standard deviation, so that they differ in
            content and not in scale.
        """
        generator = torch.Generator().manual_seed(draw(self.seed, self.recipe, kind, row, choices=1 << 62))
        noise = torch.randn(features.shape, generator=generator)
        values = features.float()
        mean, deviation = values.mean(), values.std()
        if self.recipe == "random-tensor":
            return (mean + deviation * noise).to(features.dtype)
        # sqrt(a) x + sqrt(1 - a) eps, the forward diffusion of VCD's Eq. 1, around the clip's mean and deviation
        kept, added = math.sqrt(SIGNAL_SHARE), math.sqrt(1 - SIGNAL_SHARE)
        return (mean + kept * (values - mean) + added * deviation * noise).to(features.dtype)
