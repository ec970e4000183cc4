"""What autocast does on the pretended GPU, which PyTorch leaves to whoever names a device: CUDA's rules, as documented.

Source: https://docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast to ...", as far as avem uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

LOWERED = "addmm addmv baddbmm bmm conv1d conv2d conv3d linear matmul mm mv scaled_dot_product_attention"
IN_FLOAT32 = """
    cosine_similarity cumprod cumsum exp expm1 group_norm layer_norm linalg_vector_norm log log1p log_softmax mse_loss
    nll_loss norm pow prod reciprocal rsqrt smooth_l1_loss softmax softplus sum
"""
WIDEST = "addcdiv addcmul cat dot index_copy index_put scatter_add stack"
KEY = "AutocastPrivateUse1"
HALVES = (torch.bfloat16, torch.float16)


def teach_autocast(device: str) -> list[torch.library.Library]:
    """Register the rules for a device; they hold as long as what is returned is held."""
    rest, rules = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, KEY)
    excluded = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def rule(operation: Any, wanted: Callable[[Sequence[torch.dtype]], torch.dtype]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            floats = [leaf.dtype for leaf in tree_leaves((args, kwargs)) if _is_castable(leaf)]

            def cast(value: Any) -> Any:
                return value.to(wanted(floats)) if _is_castable(value) else value

            with torch._C._ExcludeDispatchKeyGuard(excluded):
                return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

        return run

    policies: list[tuple[str, Callable[[Sequence[torch.dtype]], torch.dtype]]] = [
        (LOWERED, lambda _: torch.get_autocast_dtype(device)),
        (IN_FLOAT32, lambda _: torch.float32),
        (WIDEST, lambda found: torch.float32 if torch.float32 in found else found[0]),
    ]
    for names, wanted in policies:
        for name in names.split():
            for operation in overloads(name):
                rules.impl(operation._schema.name.split("::")[1] + suffix(operation), rule(operation, wanted), KEY)
    return [rest, rules]


def overloads(name: str) -> Iterator[Any]:
    """Variants of an operation but those that write into a tensor, or name its dimensions."""
    packet = getattr(torch.ops.aten, name)
    for variant in packet.overloads():
        operation = getattr(packet, variant)
        if "out" not in variant and "Dimname" not in str(operation._schema):
            yield operation


def suffix(operation: Any) -> str:
    return f".{operation._schema.overload_name}" if operation._schema.overload_name else ""


def _is_castable(value: Any) -> bool:
    """Whether a value is a tensor of a format that autocast changes: float64 stays."""
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float32, *HALVES)
