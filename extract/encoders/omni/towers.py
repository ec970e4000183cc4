"""Building one tower from transformers' own class, with its weights mapped from the folder's safetensors."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from avem.errors import CheckpointError
from avem.extract.encoders.checkpoints import check_fit
from avem.hub.omni import OmniFolder, Tower

CLASSES: dict[tuple[str, Tower], tuple[str, str]] = {
    ("qwen2_5_omni", "visual"): ("qwen2_5_omni.modeling_qwen2_5_omni", "Qwen2_5OmniVisionEncoder"),
    ("qwen2_5_omni", "audio"): ("qwen2_5_omni.modeling_qwen2_5_omni", "Qwen2_5OmniAudioEncoder"),
    ("qwen3_omni", "visual"): ("qwen3_omni_moe.modeling_qwen3_omni_moe", "Qwen3OmniMoeVisionEncoder"),
    ("qwen3_omni", "audio"): ("qwen3_omni_moe.modeling_qwen3_omni_moe", "Qwen3OmniMoeAudioEncoder"),
}
"""Modules and classes of transformers, by family and tower."""


def load_tower(folder: OmniFolder, tower: Tower, device: str, dtype: torch.dtype) -> nn.Module:
    """Build a tower and fill it; nothing else of the model is read.

    Weights take `dtype`. Buffers, which are positions and frequencies, stay in float32, as in transformers.

    Args:
        folder: The model.
        tower: `visual` or `audio`.
        device: Where it runs.
        dtype: What its weights are computed in.

    Raises:
        CheckpointError: A tensor is missing, left over or misshapen, or a file is damaged.
        MissingFileError: A file is missing.
    """
    module = empty_tower(folder, tower)
    found = {name: tensor.shape for name, tensor in folder.tower_shapes(tower).items()}
    check_fit(module, found, folder.path)
    for name, tensor in folder.tower_tensors(tower):
        parent, _, leaf = name.rpartition(".")
        value = nn.Parameter(tensor.to(device=device, dtype=dtype), requires_grad=False)
        setattr(module.get_submodule(parent), leaf, value)
    return module.to(device).eval().requires_grad_(False)


def empty_tower(folder: OmniFolder, tower: Tower) -> nn.Module:
    """A tower whose parameters have shapes and no storage.

    Raises:
        CheckpointError: The configuration describes no such tower.
    """
    place, name = CLASSES[folder.family, tower]
    config: Any = folder.config.vision_config if tower == "visual" else folder.config.audio_config
    tower_class = getattr(import_module(f"transformers.models.{place}"), name)
    try:
        with init_empty_weights(include_buffers=False):
            module: nn.Module = tower_class._from_config(config)
    except (ValueError, TypeError, ZeroDivisionError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{folder.path / 'config.json'} describes no {tower} tower ({reason}).") from error
    return module
