"""One call of attention: from dot products of queries and keys to weighted values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Weighting:
    """How dot products of queries and keys become attention weights."""

    scale: float | None
    """Factor on the dot products; None for `D ** -0.5`."""
    dropout: float
    """Probability of dropping a weight."""
    softcap: float | None = None
    """Bound on the scaled products, reached smoothly through tanh (Gemma 2)."""


def weighted_values(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, weighting: Weighting
) -> torch.Tensor:
    """One call: `[1, H, n, D]` from `[1, H, n, D]` and `[1, K, m, D]`; causal where there is no mask."""
    if weighting.softcap is not None:
        return capped_values(query, key, value, mask, weighting, causal=mask is None)
    groups = query.shape[1] // key.shape[1]
    in_kernel = query.device.type == "cpu" or (mask is None and query.dtype in (torch.float16, torch.bfloat16))
    if groups > 1 and not in_kernel:  # CUDA's fast kernels for masks and for float32 know no grouped queries
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    output: torch.Tensor = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=weighting.dropout,
        is_causal=mask is None,
        scale=weighting.scale,
        enable_gqa=groups > 1 and in_kernel,
    )
    return output


def capped_values(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    weighting: Weighting,
    causal: bool,
) -> torch.Tensor:
    """Attention with capped products; `mask` is bool and broadcasts to `[B, H, n, m]`, `causal` makes a triangle."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))  # [B, H, m, D]
    cap = weighting.softcap or 1.0
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if weighting.scale is None else weighting.scale)
    scores = cap * torch.tanh(scores / cap)  # [B, H, n, m]
    if causal:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1).nan_to_num(0.0)  # a padded query sees nothing
    output: torch.Tensor = functional.dropout(weights, weighting.dropout) @ value
    return output
