"""Attention over a packed prefix tree in one kernel: flex attention with a block mask (Dong et al., 2024), for GPUs.

In packed order everything below a position is one run, so the mask needs a single number for each position. Blocks of
128 x 128 that hold nothing visible are never computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from avem.errors import SettingError
from avem.train.prefix.attention import TreeAttention, sees, subtree_ends
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import PrefixTree, build_tree

logger = logging.getLogger(__name__)

TOLERANCE = 2e-2
"""Largest difference between the two ways that the check on a new device forgives; float32 products may be rounded."""


@dataclass(slots=True)
class FlexTreeAttention:
    """The attention of one packed row, with the interface of `TreeAttention`."""

    block_mask: Any
    longest: int
    """Length of the longest path in positions."""
    layers: int = 0
    """Layers that have called."""

    @classmethod
    def of(cls, tree: PrefixTree, device: torch.device) -> FlexTreeAttention:
        """Make the mask of a tree for tensors on `device`."""
        ends = subtree_ends(tree).to(device)

        def visible(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return sees(query, key, ends)

        mask = create_block_mask(visible, None, None, tree.positions, tree.positions, device=str(device))
        return cls(mask, max(node.depth + node.size for node in tree.nodes))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, weighting: Weighting) -> torch.Tensor:
        """As `TreeAttention.attend`: `[1, H, S, D]` and twice `[1, K, S, D]` to `[1, S, H, D]`.

        Raises:
            SettingError: Attention weights are to be dropped, which flex attention does not do.
        """
        if weighting.dropout:
            raise SettingError("The language model drops attention weights; set its attention_dropout to 0.")
        cap = weighting.softcap
        output: Any = _kernel(query.device.type)(
            query,
            key,
            value,
            score_mod=None if cap is None else _capped_at(cap),
            block_mask=self.block_mask,
            scale=weighting.scale,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        result: torch.Tensor = output.transpose(1, 2)
        return result


def _capped_at(cap: float) -> Callable[..., torch.Tensor]:
    """Bounds scores, in the form that flex attention calls."""

    def capped(score: torch.Tensor, batch: Any, head: Any, row: Any, column: Any) -> torch.Tensor:
        return cap * torch.tanh(score / cap)

    return capped


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


@cache
def _kernel(device_type: str) -> Any:
    """Compiled on a GPU, where rows of every length use the same kernel; as it is elsewhere."""
    return torch.compile(flex_attention, dynamic=True) if device_type == "cuda" else flex_attention
