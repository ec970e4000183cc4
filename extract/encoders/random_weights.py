"""Checkpoints in the released layouts with seeded random weights, for the demo and the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from avem.extract.encoders.languagebind import LanguageBindConfig, LanguageBindVideo
from avem.extract.encoders.whisper import HF_NAMES, WhisperShape, new_encoder
from avem.files import replace_directory
from avem.guards.output_kinds import ENCODER

MLP_RATIO = 4
"""Feed-forward width over hidden width, in both models."""
POSITION_SCALE = 0.1
"""Whisper's sinusoids have the size of trained activations; beside random ones they would drown the sound."""


def make_random_languagebind(
    directory: Path,
    *,
    image_size: int = 56,
    patch_size: int = 14,
    hidden: int = 32,
    layers: int = 3,
    heads: int = 4,
    frames: int = 8,
    projection_dim: int | None = 32,
    seed: int = 0,
) -> Path:
    """Write a LanguageBind-Video checkpoint (`config.json`, `model.safetensors`) and return its folder.

    Weights are scaled so that the residual stream keeps its size and different inputs keep different features.
    """
    config = LanguageBindConfig(
        hidden_size=hidden,
        intermediate_size=MLP_RATIO * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=image_size,
        patch_size=patch_size,
        hidden_act="gelu",
        num_frames=frames,
    )
    model = LanguageBindVideo(config, projection_dim)
    _randomise(model, seed)
    vision: dict[str, Any] = {name: getattr(config, name) for name in LanguageBindConfig.__dataclass_fields__}
    content: dict[str, Any] = {"model_type": "LanguageBindVideo", "vision_config": {**vision, "add_time_attn": True}}
    if projection_dim is not None:
        content["projection_dim"] = projection_dim
    return save_checkpoint(directory, content, model.state_dict())


def make_random_whisper(
    directory: Path,
    *,
    n_mels: int = 80,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    positions: int = 1500,
    seed: int = 0,
) -> Path:
    """Write the encoder of a Whisper checkpoint in Hugging Face's layout and return its folder.

    Args:
        directory: Where it goes; an older one there is replaced.
        n_mels: 80 or 128.
        width: d_model.
        layers: Encoder layers.
        heads: Attention heads.
        positions: Output positions, 50 a second of sound: 1500 is Whisper's 30 s, 200 is 4 s.
        seed: Same seed, same weights.
    """
    module = new_encoder(WhisperShape(n_mels, positions, width, heads, layers))
    _randomise(module, seed)
    module.positional_embedding *= POSITION_SCALE
    config = {
        "model_type": "whisper",
        "num_mel_bins": n_mels,
        "max_source_positions": positions,
        "d_model": width,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": MLP_RATIO * width,
        "activation_function": "gelu",
    }
    return save_checkpoint(directory, config, {f"encoder.{hf_name(n)}": t for n, t in module.state_dict().items()})


def _randomise(module: nn.Module, seed: int) -> None:
    """Fill matrices with N(0, 1/fan_in), embeddings with N(0, 0.1) and biases with small noise; norms stay 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(p) for part in module.modules() if isinstance(part, nn.LayerNorm) for p in part.parameters()}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if id(parameter) in norms:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                std = 0.02
            elif "embedding" in name and "patch" not in name:
                std = 0.1
            else:
                std = parameter[0].numel() ** -0.5
            parameter.copy_(noise * std)


def hf_name(name: str) -> str:
    """An encoder tensor's name in Hugging Face's layout: the inverse of `avem.extract.encoders.whisper.openai_name`."""
    for pattern, openai in HF_NAMES:
        hf = pattern.strip("^$").replace("\\.", ".")
        head, _, tail = openai.partition(r"\1")
        if not tail and name.startswith(head):
            return hf + name[len(head) :]
        number = name.removeprefix(head).split(".")[0]
        if tail and name.startswith(f"{head}{number}{tail}"):
            return hf.replace(r"(\d+)", number) + name[len(f"{head}{number}{tail}") :]
    return name


def save_checkpoint(directory: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    """Write `config.json` and `model.safetensors`, whole or not at all; an older folder there is replaced."""

    def fill(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")

    replace_directory(Path(directory), fill, ENCODER)
    return Path(directory)
