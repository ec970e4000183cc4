"""The product of a layer with a low-rank adapter (Hu et al., 2022) in one pass over its input.

Peft computes x W + s (x A) B with the sum and the scaling as passes of their own, which on a CPU take about as long as
the products of a small layer. Where there are many positions it is cheaper to add the adapter to the weight first; its
gradients stay those of the two small matrices, so no gradient of the large one is ever made.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear
from torch.nn import functional

EXACT = (torch.float32, torch.float64)
"""Number formats in which a small update survives being added to the weight; in bfloat16 it would be rounded away."""


class LoraProduct(torch.autograd.Function):
    """x (W + s B A)^T + b for a frozen W and b."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """`[..., out]` from x `[..., in]`, weight `[out, in]`, bias `[out]`, down `[r, in]` and up `[out, r]`."""
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale
        merged = torch.addmm(weight, up, down, alpha=scale)  # W + s B A, [out, in]
        return functional.linear(x, merged, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, down and up; the merged weight is made again rather than kept."""
        x, weight, down, up = ctx.saved_tensors
        (gradient,) = gradients
        rows, seen = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])  # G [n, out], x [n, in]
        for_x = gradient @ torch.addmm(weight, up, down, alpha=ctx.scale) if ctx.needs_input_grad[0] else None
        for_down = ctx.scale * ((rows @ up).T @ seen)  # dL/dA = s (G B)^T x, [r, in]
        for_up = ctx.scale * ((seen @ down.T).T @ rows).T  # dL/dB = s G^T (x A^T), [out, r]; a CPU is slow on G^T
        return for_x, None, None, for_down, for_up, None


def merge_in_products(language_model: torch.nn.Module) -> None:
    """Let peft's linear layers use `LoraProduct` where that is exact and cheaper; otherwise they do as before."""
    for module in language_model.modules():
        if type(module) is Linear:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    base, names = layer.get_base_layer(), layer.active_adapters
    fits = (
        len(names) == 1
        and names[0] in layer.lora_A
        and not (layer.disable_adapters or layer.merged or args or kwargs)
        and isinstance(layer.lora_dropout[names[0]], torch.nn.Identity)
        and not layer.lora_variant
        and layer.lora_B[names[0]].bias is None
        and not base.weight.requires_grad
        and type(base) is torch.nn.Linear
        and x.dtype == base.weight.dtype == layer.lora_A[names[0]].weight.dtype
        and x.dtype in EXACT
        and not torch.is_autocast_enabled(x.device.type)
        and x.numel() >= x.shape[-1] ** 2  # as many positions as channels: adding costs less than it saves
    )
    if not fits:
        plain: torch.Tensor = Linear.forward(layer, x, *args, **kwargs)
        return plain
    down, up = layer.lora_A[names[0]].weight, layer.lora_B[names[0]].weight
    scale = layer.scaling[names[0]]
    product: torch.Tensor = cast(Any, LoraProduct).apply(x, base.weight, base.bias, down, up, scale)
    return product
