"""Experts of a model without weights, whose activations are counted before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OUTLINE = "avem_outline"
"""Name of `outline` among transformers' implementations of experts."""


def outline(experts: Any, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Tensors of the shapes that grouped products take and give, through the first expert alone.

    Which expert a position goes to depends on values, which a model without weights has none of, and PyTorch gives
    shapes of grouped products in bfloat16 alone.

    Args:
        experts: transformers' module with the stacked parameters.
        hidden: `[n, H]`.
        chosen: Experts of each position, `[n, k]`.
        weights: Their weights, `[n, k]`.

    Returns:
        `[n, H]`.
    """
    each = hidden.repeat_interleave(chosen.shape[1], 0)  # [n k, H]
    inner = experts._apply_gate(_product(each, experts.gate_up_proj))  # [n k, I]
    outer = _product(inner, experts.down_proj) * weights.reshape(-1, 1)  # [n k, H]
    return outer.view(*chosen.shape, -1).sum(1).to(hidden.dtype)


def _product(rows: torch.Tensor, stacked: torch.Tensor) -> torch.Tensor:
    """Rows `[m, in]` times the first of some weights `[E, out, in]`, in the weights' format as a grouped product is.

    Autocast does not reach grouped products: experts that learn are in float32, and so is all that they give.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return functional.linear(rows.to(stacked.dtype), stacked[0])


def use_outline(language_model: PreTrainedModel) -> None:
    """Make a model without weights run its experts through `outline`."""
    ALL_EXPERTS_FUNCTIONS.register(OUTLINE, outline)
    language_model.set_experts_implementation(OUTLINE)
