"""EVA-CLIP-g (Sun et al., 2023) as Emotion-LLaMA reads it: one image, no norm after the last block.

The released file holds float16 tensors of one block more than is used, and a norm and a head that are not used either.
Names of parameters are those of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from avem.errors import CheckpointError
from avem.extract.encoders.checkpoints import load_strict, read_json, tensors_sha256
from avem.weights import read_pytorch

SURPLUS = re.compile(r"norm\.|head\.|fc_norm\.")
"""What follows the last block in the released file; the model takes the block's own output."""
BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class EvaSettings:
    """What the file does not say of itself; the defaults are the released model's."""

    image_size: int = 448
    """Side S of the square image, in pixels."""
    depth: int = 39
    """Blocks that are used; the file may hold more."""
    num_heads: int = 16
    layer_norm_eps: float = 1e-6

    @classmethod
    def read(cls, path: Path | None) -> EvaSettings:
        """Take the known fields of a JSON file, or the released model's settings where there is none.

        Raises:
            MissingFileError: There is no such file.
            CheckpointError: It is not a JSON object, or a field is out of range.
        """
        if path is None:
            return cls()
        values = read_json(path)
        made = {name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None}
        for name, value in made.items():
            whole = name != "layer_norm_eps"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value <= 0:
                raise CheckpointError(f"{path}: {name} is {value!r}; it must be a {'whole ' * whole}number above 0.")
        return cls(**made)


@dataclass(frozen=True, slots=True)
class EvaShape:
    """The tower's sizes: from its tensors, and from the settings for what they do not show."""

    width: int
    """C."""
    inner: int
    """Width of the feed-forward layers."""
    patch: int
    """Side of a patch in pixels."""
    settings: EvaSettings

    @classmethod
    def of(cls, tensors: dict[str, Tensor], settings: EvaSettings, source: Path) -> EvaShape:
        """Read the sizes from a file's tensors.

        Raises:
            CheckpointError: They are not an EVA tower's, or hold fewer blocks than the settings say.
        """
        patches, inner = tensors.get("patch_embed.proj.weight"), tensors.get("blocks.0.mlp.fc1.weight")
        table = tensors.get("pos_embed")
        if patches is None or inner is None or table is None or patches.ndim != 4 or table.ndim != 3:
            raise CheckpointError(f"{source} has no patch_embed, pos_embed and blocks, so it is not an EVA tower.")
        shape = cls(patches.shape[0], inner.shape[0], patches.shape[-1], settings)
        blocks = 1 + max(int(match[1]) for name in tensors if (match := BLOCK.match(name)))
        if blocks < settings.depth:
            raise CheckpointError(
                f"{source} has {blocks} blocks and {settings.depth} are to be used; give its sizes with --eva-config."
            )
        if shape.width % settings.num_heads or settings.image_size % shape.patch:
            raise CheckpointError(
                f"{source} has the width {shape.width} and patches of {shape.patch} pixels, which {settings.num_heads} "
                f"heads and images of {settings.image_size} pixels do not divide; give its sizes with --eva-config."
            )
        return shape

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.settings.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of an image, T: CLS and the patches."""
        return self.grid**2 + 1


class Attention(nn.Module):
    """Multi-head self-attention whose keys have no bias."""

    def __init__(self, shape: EvaShape) -> None:
        super().__init__()
        C = shape.width
        self.heads = shape.settings.num_heads
        self.qkv = nn.Linear(C, 3 * C, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(C)), nn.Parameter(torch.zeros(C))
        self.proj = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        B, T, C = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        weight = self.qkv.weight
        mixed = functional.linear(x.to(weight.dtype), weight, bias.to(weight.dtype))  # [B, T, 3 * C]
        q, k, v = mixed.view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # each [B, heads, T, C/heads]
        seen = functional.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(seen.transpose(1, 2).reshape(B, T, C)))


class FeedForward(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, shape: EvaShape) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(shape.width, shape.inner), nn.Linear(shape.inner, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        return cast(Tensor, self.fc2(functional.gelu(self.fc1(x.to(self.fc1.weight.dtype)))))


class Block(nn.Module):
    """Attention and feed-forward, each normalised first and added to the residual stream."""

    def __init__(self, shape: EvaShape) -> None:
        super().__init__()
        eps = shape.settings.layer_norm_eps
        self.norm1, self.norm2 = nn.LayerNorm(shape.width, eps), nn.LayerNorm(shape.width, eps)
        self.attn, self.mlp = Attention(shape), FeedForward(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]; the stream keeps its dtype whatever the matrices' is."""
        x = x + self.attn(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class EvaTower(nn.Module):
    """Patches of an image and CLS, positions, and the blocks; no norm after the last."""

    def __init__(self, shape: EvaShape) -> None:
        super().__init__()
        C, patch = shape.width, shape.patch
        self.shape = shape
        self.weights_sha256 = ""
        self.cls_token = nn.Parameter(torch.zeros(1, 1, C))
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.tokens, C))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, C, kernel_size=patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.settings.depth))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images to tokens.

        Args:
            pixels: [B, 3, S, S], float.

        Returns:
            [B, T, C], CLS first: the residual stream after the last block, in the dtype of the position table.

        Raises:
            CheckpointError: S is not what the tower was made for.
        """
        size = self.shape.settings.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise CheckpointError(f"This EVA tower takes images [3, {size}, {size}], not {list(pixels.shape[1:])}.")
        convolution = cast(nn.Conv2d, self.patch_embed["proj"])
        patches = convolution(pixels.to(convolution.weight.dtype)).flatten(2).transpose(1, 2)  # [B, T - 1, C]
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches.to(self.cls_token.dtype)], 1)  # [B, T, C]
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x

    def cast(self, dtype: torch.dtype) -> EvaTower:
        """Put matrices in `dtype`; below float32 norms, positions and biases stay in float32, as the authors run it."""
        if dtype.itemsize >= 4:
            return self.to(dtype)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.to(dtype)
        return self


def interpolate_positions(table: Tensor, grid: int) -> Tensor:
    """Stretch a position table to another grid (bicubic, no antialias); CLS keeps its own.

    Args:
        table: [1, G * G + 1, C], any float dtype, CLS first.
        grid: g, patches along a side of the image.

    Returns:
        float32 [1, g * g + 1, C].

    Raises:
        CheckpointError: The table's patches are not a square.

    Example:
        >>> interpolate_positions(torch.zeros(1, 17, 8), 6).shape
        torch.Size([1, 37, 8])
    """
    table = table.float()
    cls, patches = table[:, :1], table[:, 1:]
    own = isqrt(patches.shape[1])
    if own * own != patches.shape[1] or not own:
        raise CheckpointError(f"A position table of {table.shape[1]} rows is not a square of patches and CLS.")
    if own == grid:
        return table
    square = patches.view(1, own, own, -1).permute(0, 3, 1, 2)  # [1, C, G, G]
    scaled = functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([cls, scaled.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def load_eva(path: Path, settings: EvaSettings | None = None) -> EvaTower:
    """Read the released `.pth` file, in float32 and evaluation mode.

    Args:
        path: A dictionary of tensors; blocks after the last that is used, and what follows them, are passed over.
        settings: Sizes that the file does not show; None for the released model's.

    Raises:
        CheckpointError: The file is damaged, holds more than tensors, or is not an EVA tower of these sizes.
    """
    settings = settings or EvaSettings()
    found: dict[str, Any] = read_pytorch(path)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if len(tensors) != len(found):
        raise CheckpointError(f"{path} is not a dictionary of tensors, so it is not the released EVA file.")
    shape = EvaShape.of(tensors, settings, path)
    used = {name: value for name, value in tensors.items() if _is_used(name, settings.depth)}
    digest = tensors_sha256(used)
    tower = EvaTower(shape)
    positions = interpolate_positions(used["pos_embed"], shape.grid)
    load_strict(tower, {name: value.float() for name, value in used.items()} | {"pos_embed": positions}, path)
    tower.weights_sha256 = digest
    return tower.eval().requires_grad_(False)


def _is_used(name: str, depth: int) -> bool:
    block = BLOCK.match(name)
    return not SURPLUS.match(name) and not (block and int(block[1]) >= depth)
