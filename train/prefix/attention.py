"""Attention over a packed prefix tree, group by group, as an attention function of transformers.

Every layer calls `prefix_tree_attention` with the queries, keys and values of the whole packed row. Long paths go
through plain causal attention; the small branches below one path go together through one call whose mask is only as
large as the branches and the path. No mask over the whole row is ever made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from avem.errors import SettingError
from avem.train.prefix.sdpa import Weighting, capped_values, weighted_values
from avem.train.prefix.tree import Block, PrefixTree, plan_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION_NAME = "avem_prefix_tree"
GROUP_LIMITS = (128, 256, 512, 1024)
"""Most positions in one masked call; the cheapest of these is taken. A mask of 1024 x (2144 + 1024) is 13 MB."""
CALL_COST, KEY_COST = 4096, 12
"""What a call and each position it sees cost besides the products, in products of a query and a key. Measured on a CPU;
a wrong guess costs time alone."""

Span = tuple[int, int]
"""Start and end of a run of positions in the packed row."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attention call over parts of the packed row, which is cut into pieces that calls join as they need."""

    computed: list[int]
    """Pieces whose queries take part."""
    seen: list[int]
    """Pieces whose keys and values take part."""
    dropped: int
    """Leading positions of the output that another call gives."""
    mask: torch.Tensor | None
    """bool `[computed, seen]`, or None where causal attention serves."""


@dataclass(slots=True)
class TreeAttention:
    """The attention calls of one packed row, made once and used by every layer."""

    calls: list[Call]
    sizes: list[int]
    """Positions of each piece of the row, in order."""
    order: torch.Tensor | None
    """int64 `[S]`: where each position's output lies when the calls' outputs are joined; None where it is in order."""
    longest: int
    """Length of the longest path in positions."""
    layers: int = 0
    """Layers that have called; says whether the language model uses this attention at all."""
    _additive: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: PrefixTree, device: torch.device) -> TreeAttention:
        """Plan the attention of a tree for tensors on `device`."""
        plans = (plan_blocks(tree, limit) for limit in GROUP_LIMITS)
        blocks = min(plans, key=lambda plan: sum(_cost(tree, block) for block in plan))
        spans = [(_spans(tree, block.prefix), _spans(tree, block.queries)) for block in blocks]
        cuts = sorted({cut for pair in spans for part in pair for span in part for cut in span})
        number = {start: index for index, start in enumerate(cuts)}
        ends = subtree_ends(tree)
        calls = []
        for block, (prefix, queries) in zip(blocks, spans, strict=True):
            before, own = _pieces(prefix, number), _pieces(queries, number)
            if _causal(tree, block):
                # Its prefix is computed again and dropped: cheaper than a mask (see `_causal`).
                calls.append(Call(before + own, before + own, _length(prefix), None))
            else:
                seen = _positions([*prefix, *queries])
                mask = sees(_positions(queries)[:, None], seen[None], ends).to(device)
                calls.append(Call(own, before + own, 0, mask))
        positions = torch.cat([_positions(queries) for _, queries in spans])
        order = None if bool((positions.diff() > 0).all()) else positions.argsort().to(device)
        longest = max(node.depth + node.size for node in tree.nodes)
        return cls(calls, [end - start for start, end in pairwise(cuts)], order, longest)

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
        queries, keys, values = (part.transpose(1, 2).split(self.sizes, 1) for part in (query, key, value))
        outputs = []
        for number, call in enumerate(self.calls):
            mask = call.mask
            if mask is not None and weighting.softcap is None:
                mask = self._as_summand(number, mask, query.dtype)
            output = weighted_values(  # [1, H, computed, D]
                _join(queries, call.computed), _join(keys, call.seen), _join(values, call.seen), mask, weighting
            )
            outputs.append(output[:, :, call.dropped :].transpose(1, 2))  # [1, computed - dropped, H, D]
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)  # [1, S, H, D] in the calls' order
        return joined if self.order is None else joined.index_select(1, self.order)

    def _as_summand(self, number: int, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The mask as 0 and minus infinity, which SDPA would otherwise make of it in every layer."""
        key = (number, dtype)
        if key not in self._additive:
            zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
            self._additive[key] = zeros.masked_fill_(~mask, -torch.inf)
        return self._additive[key]


def subtree_ends(tree: PrefixTree) -> torch.Tensor:
    """int64 `[S]`: for each position of the packed row the end of what lies below it in the tree.

    In packed order a subtree is one run, so position k is seen by those from k up to (not with) `subtree_ends[k]`.
    """
    ends = torch.empty(tree.positions, dtype=torch.int64)
    for node in tree.nodes:
        ends[node.start : node.start + node.size] = node.start + node.subtree
    return ends


def sees(query: torch.Tensor, key: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Whether each query's position has each key's in its sequence.

    Args:
        query: int64 positions in the packed row.
        key: int64 positions; broadcasts with `query`.
        ends: `subtree_ends` of the tree.
    """
    return (key <= query) & (query < ends[key])


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
    prefix_tree: Any = None,
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
        prefix_tree: The packed row's `TreeAttention` or `FlexTreeAttention`.
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
        prefix_tree.layers += 1
        attended: torch.Tensor = prefix_tree.attend(query, key, value, weighting)
        return attended, None
    if softcap is not None:  # SDPA can't, and transformers' own function for it wants another kind of mask
        causal = attention_mask is None and query.shape[2] > 1
        return capped_values(query, key, value, attention_mask, weighting, causal).transpose(1, 2).contiguous(), None
    output: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
    )
    return output


def use_prefix_tree_attention(language_model: PreTrainedModel) -> None:
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


def _join(pieces: Sequence[torch.Tensor], numbers: list[int]) -> torch.Tensor:
    """Some pieces `[1, n, H, D]` as `[1, H, sum of n, D]`."""
    joined = pieces[numbers[0]] if len(numbers) == 1 else torch.cat([pieces[number] for number in numbers], 1)
    return joined.transpose(1, 2)


def _spans(tree: PrefixTree, numbers: Sequence[int]) -> list[Span]:
    """Runs of positions that some nodes fill, neighbours joined."""
    spans: list[Span] = []
    for number in numbers:
        start, end = tree.nodes[number].start, tree.nodes[number].start + tree.nodes[number].size
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _pieces(spans: Sequence[Span], number: Mapping[int, int]) -> list[int]:
    """The pieces that spans consist of; `number` gives each cut's index."""
    return [piece for start, end in spans for piece in range(number[start], number[end])]


def _positions(spans: Sequence[Span]) -> torch.Tensor:
    return torch.cat([torch.arange(start, end) for start, end in spans])


def _length(spans: Sequence[Span]) -> int:
    return sum(end - start for start, end in spans)


def _causal(tree: PrefixTree, block: Block) -> bool:
    """Whether to run a chain causally with its prefix computed again, cheaper while the prefix is the shorter."""
    prefix, queries = _sizes(tree, block)
    return block.chain and prefix < queries


def _cost(tree: PrefixTree, block: Block) -> float:
    """What a block's call costs, in products of a query and a key."""
    prefix, queries = _sizes(tree, block)
    keys = prefix + queries
    return CALL_COST + KEY_COST * keys + (keys**2 / 2 if _causal(tree, block) else queries * keys)


def _sizes(tree: PrefixTree, block: Block) -> Span:
    """Positions of a block's prefix and of its queries."""
    return sum(tree.nodes[number].size for number in block.prefix), sum(tree.nodes[n].size for n in block.queries)
