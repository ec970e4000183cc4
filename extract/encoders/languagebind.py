"""LanguageBind-Video (Zhu et al., 2024): a CLIP vision tower that attends over time before it attends over space.

Each layer adds its temporal embedding to the residual stream, lets every patch position attend over the T frames, and
then is a CLIP layer. Names of parameters are those of the released checkpoints, merged or with LoRA adapters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from avem.errors import CheckpointError
from avem.extract.encoders.checkpoints import load_strict, read_json, tensors_sha256
from avem.weights import read_tensors

ACTIVATIONS = ("gelu", "quick_gelu")


@dataclass(frozen=True, slots=True)
class LanguageBindConfig:
    """The fields of `vision_config` that shape the tower; defaults are CLIP's."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    num_frames: int = 8
    lora_r: int = 0
    lora_alpha: float = 16

    @classmethod
    def from_json(cls, config: dict[str, Any], source: Path) -> LanguageBindConfig:
        """Take the known fields of `config.json`'s `vision_config`.

        Raises:
            CheckpointError: There is no `vision_config`, or a field is out of range.
        """
        vision = config.get("vision_config")
        if not isinstance(vision, dict):
            raise CheckpointError(f"{source} has no vision_config, so it is not a LanguageBind-Video checkpoint.")
        made = cls(**{name: vision[name] for name in cls.__dataclass_fields__ if vision.get(name) is not None})
        if made.hidden_act not in ACTIVATIONS:
            raise CheckpointError(f"{source}: hidden_act {made.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}.")
        if made.hidden_size % made.num_attention_heads or made.image_size < made.patch_size:
            raise CheckpointError(f"{source}: heads must divide hidden_size, and a patch must fit into the image.")
        return made

    @property
    def tokens(self) -> int:
        """Tokens a frame, N: the patches and CLS."""
        return (self.image_size // self.patch_size) ** 2 + 1


class Attention(nn.Module):
    """Multi-head self-attention over the middle axis of [B, L, C]."""

    def __init__(self, config: LanguageBindConfig) -> None:
        super().__init__()
        self.heads, C = config.num_attention_heads, config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(C, C) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, C]."""
        B, L, C = x.shape
        q, k, v = (
            project(x).view(B, L, self.heads, C // self.heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.out_proj(mixed.transpose(1, 2).reshape(B, L, C)))


class FeedForward(nn.Module):
    """Two linear layers with the configured GELU between them."""

    def __init__(self, config: LanguageBindConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.quick = config.hidden_act == "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        x = self.fc1(x)
        return cast(Tensor, self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else functional.gelu(x)))


class Layer(nn.Module):
    """Temporal attention, spatial attention and feed-forward, each normalised first and added to the stream."""

    def __init__(self, config: LanguageBindConfig) -> None:
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.temporal_embedding = nn.Parameter(torch.zeros(1, config.num_frames, C))
        self.temporal_layer_norm1 = nn.LayerNorm(C, eps)
        self.temporal_attn = Attention(config)
        self.layer_norm1 = nn.LayerNorm(C, eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(C, eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, N, C] -> [B, T, N, C]."""
        B, T, N, C = x.shape
        if T != 1:
            x = x + self.temporal_embedding[:, :T, None]
        over_time = self.temporal_layer_norm1(x).transpose(1, 2).reshape(B * N, T, C)  # each token over the frames
        x = x + self.temporal_attn(over_time).view(B, N, T, C).transpose(1, 2)
        over_space = self.layer_norm1(x).reshape(B * T, N, C)  # the tokens of each frame
        x = x + self.self_attn(over_space).view(B, T, N, C)
        return cast(Tensor, x + self.mlp(self.layer_norm2(x)))


class Embeddings(nn.Module):
    """Patches of each frame as tokens, CLS in front, positions added."""

    def __init__(self, config: LanguageBindConfig) -> None:
        super().__init__()
        C, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(C))
        self.patch_embedding = nn.Conv2d(config.num_channels, C, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(config.tokens, C)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, T, S, S] -> [B, T, N, C]."""
        B, _, T = pixels.shape[:3]
        frames = pixels.transpose(1, 2).flatten(0, 1)  # [B * T, 3, S, S]
        patches = self.patch_embedding(frames).flatten(2).transpose(1, 2)  # [B * T, N - 1, C]
        tokens = torch.cat([self.class_embedding.expand(B * T, 1, -1), patches], dim=1)  # [B * T, N, C], CLS first
        return (tokens + self.position_embedding.weight).view(B, T, *tokens.shape[1:])


class VisionTower(nn.Module):
    """Embeddings, layers, and the norm that the pooled CLS goes through."""

    def __init__(self, config: LanguageBindConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))})
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, which the released checkpoints keep one level down."""
        return cast(nn.ModuleList, self.encoder["layers"])


class LanguageBindVideo(nn.Module):
    """The video half of LanguageBind-Video: the tower and, where the checkpoint has one, the visual projection."""

    def __init__(self, config: LanguageBindConfig, projection_dim: int | None) -> None:
        super().__init__()
        self.config = config
        self.weights_sha256 = ""
        self.vision_model = VisionTower(config)
        self.visual_projection = (
            None if projection_dim is None else nn.Linear(config.hidden_size, projection_dim, bias=False)
        )

    def hidden_states(self, pixels: Tensor) -> list[Tensor]:
        """The residual stream after the first norm and after each layer: layers + 1 tensors [B, T, N, C]."""
        return list(self.states(pixels))

    def states(self, pixels: Tensor) -> Iterator[Tensor]:
        """The hidden states one by one, so that only those that are kept stay in memory.

        Args:
            pixels: [B, 3, T, S, S] in the model's dtype, T up to the configured number of frames.

        Raises:
            CheckpointError: S or T is not what the checkpoint was made for.
        """
        config = self.config
        T, S = pixels.shape[2], pixels.shape[-1]
        if pixels.ndim != 5 or pixels.shape[-2:] != (config.image_size, config.image_size) or config.num_frames < T:
            raise CheckpointError(
                f"This LanguageBind-Video takes up to {config.num_frames} frames of {config.image_size} pixels, "
                f"not {T} of {S}."
            )
        tower = self.vision_model
        state = tower.pre_layrnorm(tower.embeddings(pixels))
        yield state
        for layer in tower.layers:
            state = layer(state)
            yield state

    def pool(self, last: Tensor) -> Tensor:
        """Last hidden state [B, T, N, C] -> the mean over frames of the normalised CLS, projected: [B, D]."""
        pooled = self.vision_model.post_layernorm(last[:, :, 0]).mean(dim=1)
        return cast(Tensor, pooled if self.visual_projection is None else self.visual_projection(pooled))


def load_languagebind(folder: Path) -> LanguageBindVideo:
    """Read a released checkpoint folder, merged or with unmerged LoRA adapters, in float32 and evaluation mode.

    Args:
        folder: Holds `config.json` and safetensors or PyTorch weights; text-tower weights are passed over.

    Raises:
        MissingFileError: A file is not there.
        CheckpointError: The files are not a LanguageBind-Video model, are damaged, or contradict each other.
    """
    config = LanguageBindConfig.from_json(read_json(folder / "config.json"), folder / "config.json")
    tensors = {_plain_name(name): value for name, value in read_tensors(folder) if _is_video(name)}
    if not any(".temporal_attn." in name for name in tensors):
        raise CheckpointError(f"{folder} has no temporal attention weights, so it is not a LanguageBind-Video model.")
    digest = tensors_sha256(tensors)
    merged = _merge_lora(tensors, config, folder)
    projection = merged.get("visual_projection.weight")
    model = LanguageBindVideo(config, None if projection is None else projection.shape[0])
    load_strict(model, merged, folder)
    model.weights_sha256 = digest
    return model.eval().requires_grad_(False)


def _is_video(name: str) -> bool:
    return name.startswith(("vision_model.", "visual_projection.")) and not name.endswith("position_ids")


def _plain_name(name: str) -> str:
    """The name without what peft puts around an adapted encoder."""
    return name.replace(".base_model.model.", ".").replace(".base_layer.", ".")


def _merge_lora(tensors: dict[str, Tensor], config: LanguageBindConfig, folder: Path) -> dict[str, Tensor]:
    """Fold `W + scale * B @ A` into the weights, scale = lora_alpha / r with r from the adapters themselves."""
    merged = {name: value.float() for name, value in tensors.items() if ".lora_" not in name}
    for name, down in tensors.items():
        match = re.fullmatch(r"(.+)\.lora_A\.\w+\.weight", name)
        if match is None:
            continue
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        weight = merged.get(f"{match[1]}.weight")
        if up is None or weight is None:
            raise CheckpointError(f"{folder} has the LoRA weight {name} without the weights it belongs to.")
        scale = config.lora_alpha / down.shape[0]
        merged[f"{match[1]}.weight"] = weight + scale * (up.float() @ down.float())
    return merged
