"""Attention over a packed prefix tree in one kernel: flex attention with a block mask (Dong et al., 2024), for GPUs.

In packed order everything below a position is one run, so the mask needs a single number for each position. Blocks of
128 x 128 that hold nothing visible are never computed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch.fx.experimental import _config as shapes
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from avem.errors import SettingError
from avem.train.prefix.attention import TreeAttention
from avem.train.prefix.blocks import padded_length, tree_block_mask
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import PrefixTree, build_tree

logger = logging.getLogger(__name__)

MOST_KERNELS = 64
"""Kernels that one process compiles at most."""
TOLERANCE = 2e-2
"""Largest difference between the two ways that the check on a new device forgives; float32 products may be rounded."""


@dataclass(slots=True)
class FlexTreeAttention:
    """The attention of one packed row, with the interface of `TreeAttention`."""

    block_mask: Any
    """A `BlockMask`, `padded_length` long."""
    longest: int
    """Length of the longest path in positions."""
    layers: int = 0
    """Layers that have called."""

    @classmethod
    def of(cls, tree: PrefixTree, device: torch.device) -> FlexTreeAttention:
        """Make the mask of a tree for tensors on `device`."""
        return cls(tree_block_mask(tree, device), max(node.depth + node.size for node in tree.nodes))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, weighting: Weighting) -> torch.Tensor:
        """As `TreeAttention.attend`: `[1, H, S, D]` and twice `[1, K, S, D]` to `[1, S, H, D]`.

        Raises:
            SettingError: Attention weights are to be dropped, which flex attention does not do.
        """
        if weighting.dropout:
            raise SettingError("The language model drops attention weights; set its attention_dropout to 0.")
        positions = query.shape[2]
        dtype = _product_dtype(value)
        parts = [part.to(dtype) for part in (query, key, value)]
        if more := padded_length(positions) - positions:
            parts = [functional.pad(part, (0, 0, 0, more)) for part in parts]
        output = _kernel(query.device.type)(*parts, self.block_mask, weighting.scale, weighting.softcap)
        result: torch.Tensor = output[:, :, :positions].transpose(1, 2)
        return result


def tree_attention(tree: PrefixTree, device: torch.device) -> TreeAttention | FlexTreeAttention:
    """The fitting attention for a device: flex attention on a GPU where it works, else call by call."""
    if device.type == "cuda" and flex_works(device):
        return FlexTreeAttention.of(tree, device)
    return TreeAttention.of(tree, device)


@cache
def flex_works(device: torch.device) -> bool:
    """Whether flex attention compiles here and agrees with attention call by call, forward and backward."""
    tree = build_tree([[1] * 200 + [2] * 90, [1] * 200 + [3] * 70], lambda _: 1)
    generator = torch.Generator(device).manual_seed(0)
    shape = (1, 2, tree.positions, 64)
    try:
        found: list[list[Any]] = []
        inputs = [torch.randn(shape, generator=generator, device=device) for _ in range(3)]
        for method in (TreeAttention, FlexTreeAttention):
            own = [part.clone().requires_grad_() for part in inputs]
            output = method.of(tree, device).attend(own[0], own[1], own[2], Weighting(None, 0.0))
            torch.autograd.backward(output.square().sum())
            found.append([output.detach(), *(part.grad for part in own)])
        worst = max(float((one - other).abs().max()) for one, other in zip(*found, strict=True))
    except Exception as error:  # noqa: BLE001 - compilers fail in ways of their own
        logger.warning(
            "Flex attention does not run on %s (%s); continuing without it", device, str(error).splitlines()[0]
        )
        return False
    if worst > TOLERANCE:
        logger.warning("Flex attention on %s differs by %.1e; continuing without it", device, worst)
    return worst <= TOLERANCE


def _product_dtype(value: torch.Tensor) -> torch.dtype:
    """The number format in which products are taken: autocast's, under which rotated queries and keys are float32."""
    device = value.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype


def _kernel(device_type: str) -> Any:
    """Compiled on a GPU, as it is elsewhere: PyTorch compiles flex attention's backward pass for GPUs alone."""
    return compiled_flex if device_type == "cuda" else _flex


def compiled_flex(*inputs: Any) -> torch.Tensor:
    """`_flex`, compiled once for rows of every length.

    Another number of heads, head size, number format, scale or cap is compiled once more, and so is a pass without
    gradients. Beyond a limit PyTorch would run flex attention uncompiled, with a matrix of all pairs.
    """
    settings = torch._dynamo.config.patch(recompile_limit=MOST_KERNELS, specialize_float=True)
    with settings, cast(Any, shapes).patch(use_duck_shape=False):
        output: torch.Tensor = _compiled()(*inputs)
    return output


@cache
def _compiled() -> Any:
    return torch.compile(_flex, dynamic=True, fullgraph=True)


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Any, scale: float | None, softcap: float | None
) -> torch.Tensor:
    """Flex attention: `[1, H, S, D]` from `[1, H, S, D]` and twice `[1, K, S, D]`."""
    cap = 1.0 if softcap is None else softcap

    def capped(score: torch.Tensor, batch: Any, head: Any, row: Any, column: Any) -> torch.Tensor:
        return cap * torch.tanh(score / cap)

    output: Any = flex_attention(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=blocks,
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    result: torch.Tensor = output
    return result
