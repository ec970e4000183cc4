"""Attention over a packed prefix tree, group by group, as an attention function of transformers.

Every layer calls `prefix_tree_attention` with the queries, keys and values of the whole packed row. Long paths go
through plain causal attention; the small branches below one path go together through one call whose mask is only as
large as the branches and the path. No mask over the whole row is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from avem.errors import SettingError
from avem.train.tree import Block, PrefixTree, plan_blocks

ATTENTION_NAME = "avem_prefix_tree"
GROUP_LIMIT = 1024
"""Most positions in one masked call; a mask of 1024 x (2144 + 1024) is 3 MB."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """How dot products of queries and keys become attention weights."""

    scale: float | None
    """Factor on the dot products; None for `D ** -0.5`."""
    dropout: float
    """Probability of dropping a weight."""
    softcap: float | None = None
    """Bound on the scaled products, reached smoothly through tanh (Gemma 2)."""


@dataclass(slots=True)
class TreeAttention:
    """The attention calls of one packed row, made once and used by every layer."""

    tree: PrefixTree
    blocks: list[Block]
    masks: list[torch.Tensor | None]
    """For each block bool `[queries, prefix + queries]`, or None where causal attention serves."""
    longest: int
    """Length of the longest path in positions."""
    calls: int = 0
    """Layers that have asked; says whether the language model uses this attention at all."""
    sizes: list[int] = field(default_factory=list)
    """Positions of each node in packed order."""

    @classmethod
    def of(cls, tree: PrefixTree, device: torch.device, group_limit: int = GROUP_LIMIT) -> TreeAttention:
        """Plan the attention of a tree for tensors on `device`."""
        blocks = plan_blocks(tree, group_limit)
        masks = [None if _causal(tree, block) else _mask(tree, block).to(device) for block in blocks]
        longest = max(node.depth + node.size for node in tree.nodes)
        return cls(tree, blocks, masks, longest, sizes=[tree.nodes[number].size for number in tree.order])

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, weighting: Weighting) -> torch.Tensor:
        """Attention output for the whole row.

        Args:
            query: `[1, H, S, D]`.
            key: `[1, K, S, D]`, K dividing H (grouped-query attention).
            value: `[1, K, S, D]`.
            weighting: How dot products become weights.

        Returns:
            `[1, S, H, D]`.
        """
        # Rows are cut and joined as [1, S, H, D], which is how they lie in memory.
        rows = [part.transpose(1, 2).split(self.sizes, 1) for part in (query, key, value)]
        pieces = [dict(zip(self.tree.order, parts, strict=True)) for parts in rows]
        outputs: dict[int, torch.Tensor] = {}
        for block, mask in zip(self.blocks, self.masks, strict=True):
            # A causal call also asks for its prefix and drops the answer: cheaper than a mask (see `_causal`).
            asked = block.queries if mask is not None else (*block.prefix, *block.queries)
            seen = (*block.prefix, *block.queries)
            output = _attend(
                _join(pieces[0], asked), _join(pieces[1], seen), _join(pieces[2], seen), mask, weighting
            )  # fmt: skip
            parts = output.transpose(1, 2).split([self.tree.nodes[number].size for number in asked], 1)
            outputs.update(pair for pair in zip(asked, parts, strict=True) if pair[0] in block.queries)
        return torch.cat([outputs[number] for number in self.tree.order if number in outputs], 1)


def prefix_tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    prefix_tree: TreeAttention | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function for transformers: SDPA, unless the forward pass was given `prefix_tree=`.

    Args:
        module: The calling attention layer.
        query: `[B, H, S, D]`; with a tree B is 1.
        key: `[B, K, S, D]`.
        value: `[B, K, S, D]`.
        attention_mask: Unused with a tree.
        scaling: Factor on the dot products.
        dropout: Probability of dropping an attention weight.
        softcap: Smooth bound on the scaled dot products.
        prefix_tree: The packed row's layout.
        **others: What the model hands to its attention.

    Returns:
        `[B, S, H, D]`, and no attention weights.

    Raises:
        SettingError: The layer uses attention sinks, or with a tree a window shorter than a sequence.
    """
    if others.get("s_aux") is not None:
        raise SettingError("The language model's attention has sinks (s_aux), which avem does not compute.")
    weighting = Weighting(scaling, dropout, softcap)
    if prefix_tree is not None:
        _check_window(others.get("sliding_window"), prefix_tree.longest)
        prefix_tree.calls += 1
        return prefix_tree.attend(query, key, value, weighting), None
    if softcap is not None:  # SDPA can't, and transformers' own function for it wants another kind of mask
        causal = attention_mask is None and query.shape[2] > 1
        return _capped(query, key, value, attention_mask, weighting, causal).transpose(1, 2).contiguous(), None
    output: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
    )
    return output


def use_prefix_tree_attention(language_model: Any) -> None:
    """Make a Hugging Face model attend through `prefix_tree_attention`; without a tree it behaves as with SDPA."""
    AttentionInterface.register(ATTENTION_NAME, prefix_tree_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    language_model.set_attn_implementation(ATTENTION_NAME)


def prepared_mask(device: torch.device) -> torch.Tensor:
    """A stand-in `[1, 1, 1, 1]` that keeps transformers from making a mask over the packed row.

    transformers hands a four-dimensional mask on as it is; `prefix_tree_attention` does not look at it.
    """
    return torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)


def _check_window(window: int | None, longest: int) -> None:
    if window is not None and window < longest:
        raise SettingError(
            f"The language model attends to windows of {window} positions and a sequence has {longest}; "
            f"prefix sharing needs full attention, so score with share_prefixes=False or shorten the sequences."
        )


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, weighting: Weighting
) -> torch.Tensor:
    """One call: `[1, H, n, D]` from `[1, H, n, D]` and `[1, K, m, D]`; causal where there is no mask."""
    if weighting.softcap is not None:
        return _capped(query, key, value, mask, weighting, causal=mask is None)
    groups = query.shape[1] // key.shape[1]
    in_kernel = query.device.type == "cpu" or (mask is None and query.dtype in (torch.float16, torch.bfloat16))
    if groups > 1 and not in_kernel:  # CUDA's fast kernels for masks and for float32 know no grouped queries
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    output: torch.Tensor = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=weighting.dropout, is_causal=mask is None,
        scale=weighting.scale, enable_gqa=groups > 1 and in_kernel,
    )  # fmt: skip
    return output


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    weighting: Weighting,
    causal: bool,
) -> torch.Tensor:
    """Attention with capped products; `mask` is bool and broadcasts to `[B, H, n, m]`, `causal` makes a triangle."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    cap = weighting.softcap or 1.0
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if weighting.scale is None else weighting.scale)
    scores = cap * torch.tanh(scores / cap)
    if causal:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1).nan_to_num(0.0)  # a padded query sees nothing
    output: torch.Tensor = functional.dropout(weights, weighting.dropout) @ value
    return output


def _join(pieces: dict[int, torch.Tensor], numbers: tuple[int, ...]) -> torch.Tensor:
    """Rows `[1, n, H, D]` of some nodes as `[1, H, sum of n, D]`."""
    joined = pieces[numbers[0]] if len(numbers) == 1 else torch.cat([pieces[number] for number in numbers], 1)
    return joined.transpose(1, 2)


def _causal(tree: PrefixTree, block: Block) -> bool:
    """Whether to run a chain causally with its prefix asked again, which costs less while the prefix is the shorter."""
    size = sum(tree.nodes[number].size for number in block.queries)
    return block.chain and sum(tree.nodes[number].size for number in block.prefix) < size


def _mask(tree: PrefixTree, block: Block) -> torch.Tensor:
    """What each query sees: the whole prefix, its ancestors among the queries, and itself up to its own place."""
    nodes = tree.nodes
    prefix = sum(nodes[number].size for number in block.prefix)
    offsets, total = {}, 0
    for number in block.queries:
        offsets[number] = total
        total += nodes[number].size
    mask = torch.zeros(total, prefix + total, dtype=torch.bool)
    mask[:, :prefix] = True
    for number in block.queries:
        row, size = offsets[number], nodes[number].size
        ancestor = number
        while (ancestor := nodes[ancestor].parent) in offsets:
            column = prefix + offsets[ancestor]
            mask[row : row + size, column : column + nodes[ancestor].size] = True
        mask[row : row + size, prefix + row : prefix + row + size] = torch.ones(size, size, dtype=torch.bool).tril()
    return mask
