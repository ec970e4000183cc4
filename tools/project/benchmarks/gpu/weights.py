"""Random weights made where they are needed: a 7B model comes into being on the GPU, and no file is written."""

from __future__ import annotations

import torch
from torch import nn


def make_weights(module: nn.Module, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
    """Give a module without storage random weights.

    Matrices are N(0, 1/fan-in), so that activations keep their size; norms are 1, biases 0.

    Args:
        module: Made under `init_empty_weights(include_buffers=False)`; it is filled in place.
        device: Where its weights and buffers go.
        dtype: The weights' number format; buffers keep theirs.
        seed: Same seed, same weights on the same device.
    """
    generator = torch.Generator(device).manual_seed(seed)
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, empty in part.named_parameters(recurse=False):
            if id(empty) not in made:
                filled = torch.empty(empty.shape, dtype=dtype, device=device)
                if empty.ndim > 1:
                    filled.normal_(std=empty[0].numel() ** -0.5, generator=generator)
                else:
                    filled.fill_(0.0 if name.endswith("bias") else 1.0)
                made[id(empty)] = nn.Parameter(filled, requires_grad=False)
            part._parameters[name] = made[id(empty)]
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = buffer.to(device)
