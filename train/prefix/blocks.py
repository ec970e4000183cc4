"""Which blocks of a packed row's queries and keys flex attention computes, worked out from the tree alone.

PyTorch's `create_block_mask` evaluates the mask at every pair of positions first: 268 million for a row of 16384. In
packed order everything below a position is one run, so that two numbers a block of keys are enough: the nearest and the
furthest end of its runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from avem.train.prefix.attention import sees, subtree_ends
from avem.train.prefix.tree import PrefixTree

BLOCK = 128
"""Positions along each side of a block, the default of flex attention's kernels."""


def padded_length(positions: int) -> int:
    """Positions that a row is computed with: a row of one block gets a second one.

    Compiled code takes an axis of length 1 for a constant, and PyTorch has another kernel for short rows, so each would
    be compiled once more.
    """
    return positions if positions > BLOCK else 2 * BLOCK


def tree_block_mask(tree: PrefixTree, device: torch.device) -> BlockMask:
    """The block mask of a tree's packed row, `padded_length` long; positions past the tree see themselves alone."""
    length = padded_length(tree.positions)
    count = -(-length // BLOCK)
    ends = torch.arange(1, count * BLOCK + 1)  # [count * BLOCK]
    ends[: tree.positions] = subtree_ends(tree)
    nearest, furthest = ends.view(count, BLOCK).aminmax(dim=1)  # [key blocks]
    start = torch.arange(count)[:, None] * BLOCK  # [query blocks, 1]
    earlier = torch.ones(count, count, dtype=torch.bool).tril(-1)  # [query blocks, key blocks]
    full = earlier & (nearest >= start + BLOCK)  # the block's last query still sees the key whose run ends first
    some = earlier & (furthest > start)  # its first query sees the key whose run ends last
    partial = some & ~full | torch.eye(count, dtype=torch.bool)  # on the diagonal the mask is causal
    ends = ends.to(device)

    def visible(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return sees(query, key, ends)

    mask = BlockMask.from_kv_blocks(
        *_in_order(partial), *_in_order(full), BLOCK_SIZE=BLOCK, mask_mod=visible, seq_lengths=(length, length)
    )
    return mask.to(device)


def _in_order(wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many key blocks each query block wants, int32 `[1, 1, n]`, and their indices first, `[1, 1, n, n]`."""
    indices = wanted.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return wanted.sum(1, dtype=torch.int32)[None, None], indices.to(torch.int32)[None, None]
