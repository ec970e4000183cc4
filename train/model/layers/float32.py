"""What scoring computes in float32, whatever the number format of the language model.

A log-probability is small where a logit is large: of 20, bfloat16 is off by up to 0.06, and a long answer sums hundreds
of tokens. Two parts decide how far off the sum is (measured in `docs/performance.md`): the logits, and the stream of
hidden states that every layer adds to. Both are float32 here. Layers' products stay in the model's own format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.base import FamilyModel

TOKENS_AT_ONCE = 8192
"""Rows of the weight that are in float32 at a time: 134 MB for a width of 4096."""
HALF = (torch.bfloat16, torch.float16)


def float32_stream(model: FamilyModel) -> AbstractContextManager[None]:
    """A context in which layers of 16 bits add their products to hidden states of float32, given `in_float32` ones.

    It is PyTorch's autocast, under which training in bfloat16 runs in any case. In other formats nothing changes.

    Args:
        model: Of any family.
    """
    return torch.autocast(model.device.type, model.dtype) if model.dtype in HALF else nullcontext()


def in_float32(embeddings: Tensor) -> Tensor:
    """Embeddings of 16 bits in float32, others as they are."""
    return embeddings.float() if embeddings.dtype in HALF else embeddings


@contextmanager
def float32_logits(language_model: PreTrainedModel) -> Iterator[None]:
    """A context in which a language model's output layer gives float32; in float64 nothing changes.

    Generation does without: it reads the weight once a token, and a copy of it in float32 would take longer than that.

    Args:
        language_model: Its output layer may be anything; only a plain linear layer changes.
    """
    layer = language_model.get_output_embeddings()
    if type(layer) is not nn.Linear or "forward" in vars(layer):  # quantised, adapted, or changed by another library
        yield
        return
    layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del layer.forward


def _forward(layer: nn.Linear, hidden: Tensor) -> Tensor:
    """Logits `[..., V]` from hidden states `[..., H]`."""
    if layer.weight.dtype == torch.float64:
        return functional.linear(hidden, layer.weight, layer.bias)
    with torch.autocast(hidden.device.type, enabled=False):
        bias = None if layer.bias is None else layer.bias.float()
        if layer.weight.dtype not in HALF:
            return functional.linear(hidden.float(), layer.weight, bias)
        logits: Tensor = cast(Any, Float32Product).apply(hidden, layer.weight)
        return logits if bias is None else logits + bias


class Float32Product(torch.autograd.Function):
    """h W^T in float32 from a W of 16 bits, without a whole W in float32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """float32 `[..., V]` from hidden `[..., H]` and weight `[V, H]`."""
        ctx.save_for_backward(hidden, weight)
        rows = hidden.float()
        logits = rows.new_empty(*rows.shape[:-1], len(weight))
        for part in _parts(weight):
            logits[..., part] = functional.linear(rows, weight[part].float())
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of hidden and weight, in their own number formats, with float32 sums."""
        hidden, weight = ctx.saved_tensors
        (gradient,) = gradients
        for_hidden = for_weight = None
        if ctx.needs_input_grad[0]:
            total = torch.zeros_like(hidden, dtype=torch.float32)
            for part in _parts(weight):
                total += gradient[..., part] @ weight[part].float()
            for_hidden = total.to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            rows = hidden.float().reshape(-1, hidden.shape[-1])  # [n, H]
            for_weight = torch.empty_like(weight)
            for part in _parts(weight):
                for_weight[part] = (gradient[..., part].reshape(len(rows), -1).T @ rows).to(weight.dtype)
        return for_hidden, for_weight


def _parts(weight: Tensor) -> Iterator[slice]:
    """Rows of a weight, so many at a time."""
    for start in range(0, len(weight), TOKENS_AT_ONCE):
        yield slice(start, min(start + TOKENS_AT_ONCE, len(weight)))
