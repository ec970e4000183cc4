"""Arithmetic of a training step against what the device can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch

from avem.train.run.checkpoint import trained_parameters

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

PEAK_SIZES = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices whose product stands for a device's best, where it is fast enough."""
FIRST_SIZE, PEAK_PRODUCTS = 128, 4
PEAK_SECONDS = 2.0
"""About how long measuring may take; a processor without bfloat16 takes minutes for the largest product."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Floating-point operations of a language model's forward and backward pass, a multiplication and addition as two.

    Left out are embeddings, the output layer, projectors, and everything that is no matrix product.
    """

    per_token: float
    """Of one packed position in the linear layers."""
    per_pair: float
    """Of one position that sees another, over all attention heads and layers."""

    @classmethod
    def of(cls, model: FamilyModel) -> StepCost:
        """Cost of a model whose trained parameters are marked.

        A linear weight is used once in the forward pass, once for the gradient of its input, and where it is trained
        once more for its own; attention takes two products forward and four backward (Dao et al., 2022, without the
        products that are computed again).
        """
        config = model.language_model.config.get_text_config()
        trained = {id(parameter) for parameter in trained_parameters(model).values()}
        outside = {id(model.language_model.get_input_embeddings().weight)}
        if (head := model.language_model.get_output_embeddings()) is not None:
            outside.add(id(head.weight))
        linear = [p for p in model.language_model.parameters() if p.ndim == 2 and id(p) not in outside]
        width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        return cls(
            per_token=sum(p.numel() * (6.0 if id(p) in trained else 4.0) for p in linear),
            per_pair=12.0 * width * config.num_hidden_layers,
        )

    def step(self, tokens: int, pairs: int) -> float:
        """Operations of a step.

        Args:
            tokens: Packed positions.
            pairs: Pairs of a position and one that it sees, itself included.
        """
        return self.per_token * tokens + self.per_pair * pairs


@cache
def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product on a device, the best of a few; measured once a process."""

    def product(size: int) -> float:
        left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
        _wait_for(device)
        start = time.perf_counter()
        left @ right
        _wait_for(device)
        return time.perf_counter() - start

    return best_speed(product, PEAK_SIZES.get(device.type, 1024))


def best_speed(product: Callable[[int], float], largest: int, seconds: float = PEAK_SECONDS) -> float:
    """Operations a second of the largest product that fits the time, the best of a few.

    Args:
        product: Multiplies two square matrices of a size and gives the seconds that it took.
        largest: The size that is wanted; smaller ones are tried first.
        seconds: About how long everything may take. A product of twice the size takes eight times as long.

    Example:
        >>> round(best_speed(lambda size: 2 * size**3 / 1e9, 1024))
        1000000000
    """
    size = min(FIRST_SIZE, largest)
    product(size)  # loads kernels
    once = product(size)
    while size < largest and 8 * once * PEAK_PRODUCTS <= seconds:
        size = min(2 * size, largest)
        once = product(size)
    return 2.0 * size**3 / min(once, *(product(size) for _ in range(PEAK_PRODUCTS - 1)))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
