"""What a model is shown of a clip, whatever encoders it comes from: rows of streams, grouped by side, cut into pieces.

A model reads a clip through two sides, `video` (everything visual) and `audio`, since a question is about one of them
or both (Eq. 5). A side is one stream or several: EmotionLLaMA's video side is a frame, a face and a motion vector.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from avem.records import Kind

Side: TypeAlias = Kind
"""`video` (everything that is seen) or `audio`."""
SIDES: tuple[Side, ...] = ("video", "audio")


@dataclass(frozen=True, slots=True, eq=False)
class StreamRow:
    """What one stream holds of one clip."""

    features: torch.Tensor
    """`[T, N, C]`, `[n, C]`, `[C]`, ... as the store keeps it. On the device `meta` where only the shape is known."""
    companions: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """The row's companions by name, such as `grid` int32 `[3]`. Those that are as long as the features (ragged) are on
    the device `meta` too where only shapes are known; the others always have their values."""


Group: TypeAlias = Mapping[str, StreamRow]
"""A side of a clip: its stream rows, by `FamilyStream.name`."""
Medium: TypeAlias = "torch.Tensor | Group"
"""A side of a clip; where a family reads one stream without companions on it, that stream's tensor alone."""


@dataclass(frozen=True, slots=True)
class FamilyStream:
    """A stream that a family reads, and how it is found in a store."""

    name: str
    """Key in a `Group`, in score keys and in messages: `video`, `frame/eva_g`."""
    slot: str
    """Slot of the store's stream: `video`, `audio`, `frame`, ..."""
    side: Side
    companions: tuple[str, ...] = ()
    """Companions that are read with each row."""
    expect: Mapping[str, Any] = field(default_factory=dict)
    """What the stream's fingerprint has to say, such as `{"encoder": "qwen2_5_omni", "weights_sha256": "..."}`."""
    ragged: bool = False
    """Whether rows differ in length."""
    width: int | None = None
    """Channels C, to choose among several streams that fit otherwise; None: any."""
    required: bool = True
    """Whether a store without it is refused (where the side is shown at all), or the side is left out of prompts."""
    hint: str = ""
    """What makes it, with `{store}`, `{model}` and `{name}`, if that is not `avem extract --for`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a side's tokens that always stays together in a sequence: one atom of the prefix tree."""

    start: int
    """Index of its first token among the side's tokens."""
    size: int
    """Tokens, which is also the number of positions it fills in the row."""
    place: Hashable = None
    """What its position ids follow from, for `Positions.media`: a part of a grid, say. Equal pieces of equal media
    after equal prefixes have to have equal ids."""


@dataclass(frozen=True, slots=True, eq=False)
class MediaEmbedding:
    """A side of one clip as the language model reads it."""

    tokens: torch.Tensor
    """`[W, H]`: projected by the model, or as cached."""
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """More inputs for the same tokens, each `[..., W, H]`: Qwen3-Omni's `deepstack` `[levels, W, H]`."""


def rows_of(medium: Medium, name: str) -> Group:
    """A medium as a group.

    Args:
        medium: A tensor, or a group.
        name: Of the stream that a bare tensor belongs to.
    """
    return {name: StreamRow(medium)} if isinstance(medium, torch.Tensor) else medium


def medium_key(medium: Medium) -> tuple[object, ...]:
    """What two sequences have in common where they hold the same medium: the memory that it lies in.

    A tensor that names no memory (on `meta`, or a subclass that wraps another) has only itself in common.
    """
    if isinstance(medium, torch.Tensor):
        return _tensor_key(medium)
    return tuple((name, _tensor_key(medium[name].features)) for name in sorted(medium))


def moved(
    medium: Medium, device: torch.device | str, dtype: torch.dtype | None = None, *, non_blocking: bool = False
) -> Medium:
    """A medium on another device; `dtype` changes floating-point features and companions of their length alone."""
    if isinstance(medium, torch.Tensor):
        return medium.to(device, dtype, non_blocking=non_blocking)
    return {
        name: StreamRow(
            row.features.to(device, dtype, non_blocking=non_blocking),
            {key: value.to(device) for key, value in row.companions.items()},
        )
        for name, row in medium.items()
    }


def tensors_of(medium: Medium) -> Sequence[torch.Tensor]:
    """All tensors of a medium."""
    if isinstance(medium, torch.Tensor):
        return [medium]
    return [tensor for row in medium.values() for tensor in (row.features, *row.companions.values())]


def _tensor_key(tensor: torch.Tensor) -> tuple[object, ...]:
    memory = tensor.data_ptr() or -id(tensor)  # no address is negative
    return (memory, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
