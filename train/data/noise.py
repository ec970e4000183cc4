"""Rejected inputs that no clip has: random tensors, and a clip's own features under noise (Table 17).

A spec names them by a negative number instead of a store row, so that they are cached, packed and keyed like clips.
The noise is added to features, since encoders are not in the loop; the paper adds it to frames and sound, as VCD does
(Leng et al., 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from avem.seeds import draw
from avem.train.settings.diffusion import DIFFUSION_STEP, DIFFUSION_STEPS

NOISE_RECIPES = ("random-tensor", "diffused")
"""Recipes of rejected inputs that are noise made while training, not mined clips."""


@cache
def signal_share(step: int) -> float:
    """What is left of the variance after some of VCD's diffusion steps: the cumulative product of 1 - beta.

    VCD's betas rise from 1e-5 to 5e-3 along a sigmoid from -6 to 6 (Leng et al., 2024, the released code).

    Args:
        step: From 0 to 999.

    Example:
        >>> round(signal_share(500), 3), round(signal_share(900), 3)
        (0.745, 0.133)
    """
    betas = torch.sigmoid(torch.linspace(-6, 6, DIFFUSION_STEPS, dtype=torch.float64)) * (5e-3 - 1e-5) + 1e-5  # [1000]
    return float(torch.cumprod(1 - betas, 0)[step])


def noise_row(row: int) -> int:
    """The number that stands for a store row's features under noise; its own inverse."""
    return -1 - row


@dataclass(frozen=True, slots=True)
class FeatureNoise:
    """Makes the features that negative numbers stand for."""

    recipe: str
    """One of `NOISE_RECIPES`."""
    seed: int
    step: int = DIFFUSION_STEP
    """How far `diffused` goes on VCD's schedule; `random-tensor` ignores it."""

    def __str__(self) -> str:
        strength = f" step {self.step}" if self.recipe == "diffused" else ""
        return f"{self.recipe}{strength} {self.seed}"

    def __call__(self, kind: str, row: int, features: Tensor) -> Tensor:
        """Put noise on a clip's features.

        Args:
            kind: What the features are: the name of a stream, such as `video`.
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
        share = signal_share(self.step)
        kept, added = math.sqrt(share), math.sqrt(1 - share)
        return (mean + kept * (values - mean) + added * deviation * noise).to(features.dtype)
