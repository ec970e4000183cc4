"""4-bit weights on the pretended GPU: bitsandbytes' own functions, rules about devices and CPU values.

Its `Params4bit` turns into a tensor of another device in place, which these tensors can't. So its `_quantize` gives a
new parameter here, and what was known of it is put back from the layer, as bitsandbytes does after FSDP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

KNOWN = ("blocksize", "compress_statistics", "quant_type", "quant_storage")


@contextmanager
def four_bit_on_gpu() -> Iterator[None]:
    """Let `avem.train.model.quantise` put layers on the pretended GPU."""
    import bitsandbytes
    from bitsandbytes.nn import Params4bit, modules

    def quantise(self: Any, device: torch.device) -> torch.nn.Parameter:
        packed, state = bitsandbytes.functional.quantize_4bit(
            self.data.contiguous().to(device), **{name: getattr(self, name) for name in KNOWN}
        )
        self.module.quant_state = state
        return torch.nn.Parameter(packed, requires_grad=False)

    def remember(layer: Any) -> None:
        for name, value in (("quant_state", layer.quant_state), ("bnb_quantized", True)):
            setattr(layer.weight, name, value)
        for name in KNOWN:
            setattr(layer.weight, name, getattr(Params4bit(torch.zeros(1), quant_type="nf4"), name))

    move = modules.Linear4bit.to

    def moved(layer: Any, *args: Any, **kwargs: Any) -> Any:
        found = move(layer, *args, **kwargs)
        remember(found)
        return found

    with (
        patch.object(Params4bit, "_quantize", quantise),
        patch.object(modules.Linear4bit, "to", moved),
        patch.object(modules, "has_avx512bf16", lambda: False),
        patch("avem.train.checkpoints.load.check_four_bit"),
    ):
        yield
