"""What an encoder is to the pipeline: the stream it makes, what it wants of a clip, and how a batch becomes rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

import numpy.typing as npt
import torch
from torch import Tensor

from avem.extract.decode.wants import Wants

if TYPE_CHECKING:
    from avem.cache import Companion

RowShape: TypeAlias = tuple[int | None, ...]
"""Shape of one clip's row; None first where its length differs by clip."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One clip as the decoding worker prepared it for one encoder."""

    array: npt.NDArray[Any]
    """Of pictures, what `Pictures.prepare` made; of sound, float32 [samples] at 16 kHz."""
    duration_s: float = 0.0
    """Length of the clip, or of the window of it."""
    total: int = 0
    """Frames that the clip or the window has; 0 for sound."""
    fps: float = 0.0
    """Frames a second; 0 for sound, and where it is not known."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made of a batch of n clips."""

    features: Tensor | Sequence[Tensor]
    """Rows of one shape as one tensor [n, *row_shape]; else n rows [n_i, C]. Any float dtype, on any device."""
    pooled: Tensor
    """float32 [n, D], each of length 1."""
    companions: Mapping[str, Tensor | Sequence[Tensor]] = field(default_factory=dict)
    """Of each of the stream's companions, n rows."""


class StreamEncoder(Protocol):
    """Makes one stream; see `avem.extract.encoders.sources` for how a run chooses its encoders.

    Attributes:
        slot: First half of the stream's name, such as `video`.
        name: Second half, such as `languagebind-video`.
        modality: `visual` or `audio`.
        device: Where it runs.
        row_shape: Of one clip's features.
        pooled_dim: D of the pooled vector.
        longest: Most tokens of a row whose length differs by clip; 0 where rows are alike.
        wants: What a decoding worker hands over.
    """

    slot: str
    name: str
    modality: Literal["visual", "audio"]
    device: torch.device
    row_shape: RowShape
    pooled_dim: int
    longest: int
    wants: Wants

    def companions_as(self, dtype: str) -> Mapping[str, Companion]:
        """The stream's companions where its features are kept as `dtype`; empty for most encoders."""
        ...

    def copy_to(self, device: str) -> Self:
        """The same encoder on another device."""
        ...

    def inputs(self, clip: Decoded) -> Any:
        """What `encode_clips` takes of one clip.

        Raises:
            MediaError: The clip can't be used.
        """
        ...

    def encode_clips(self, inputs: Sequence[Any], /) -> Encoded:
        """Encode a batch of clips; what a clip's row is must not depend on the others, but for rounding."""
        ...

    def fingerprint(self, decoder: str) -> dict[str, Any]:
        """Everything that decides the features' values, of clips that a decoder read."""
        ...


class FixedRows:
    """What encoders of rows of one shape share: they stack their inputs and encode them at once."""

    longest = 0

    def companions_as(self, dtype: str) -> Mapping[str, Companion]:
        """None: such a stream is features alone."""
        return {}

    def encode(self, inputs: Tensor, /) -> tuple[Tensor, Tensor]:
        """A batch of inputs [B, ...] to features [B, *row_shape] and pooled vectors, float32 [B, D]."""
        raise NotImplementedError

    def encode_clips(self, inputs: Sequence[Tensor], /) -> Encoded:
        """See `StreamEncoder`."""
        features, pooled = self.encode(torch.stack(list(inputs)))
        return Encoded(features, pooled)
