"""What a stream is: one encoder's features of every clip of a store, and the small arrays that go with them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from avem.errors import SettingError

RowShape: TypeAlias = tuple[int | None, ...]
"""Shape of one clip's row. None stands for the one axis whose length differs from clip to clip."""

StreamModality: TypeAlias = Literal["visual", "audio"]
"""What a question about one modality replaces (Eq. 5): the sound is audio, everything seen is visual."""

FEATURE_DTYPES = ("float16", "bfloat16", "int8")
"""How features are kept; int8 has a float32 scale per token beside it."""

COMPANION_DTYPES = {
    "int8": 1,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""Types of companions, with their size in bytes."""

RESERVED = ("features", "pooled", "scale", "error", "offsets")
"""Arrays that a stream may have besides its companions."""

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
SLOTS_TAKEN = ("ledger", "negatives", "logprobs", "clips")
"""Names in a store that are no slots."""

CHUNK_BYTES = 2**17
"""About how large the inner chunks of ragged rows are: each has a checksum and an entry in its shard's index."""

LONGEST = 32_768
"""Most tokens of a ragged row unless a stream says otherwise."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A small array that a stream's rows need beside their features.

    Raises:
        SettingError: A field makes no sense.

    Example:
        >>> Companion((3,), "int32").row_shape
        (3,)
    """

    row_shape: RowShape
    """Shape of one row. `(3,)` for a grid, `()` for a number; None is the length of the row's features."""
    dtype: str
    """One of `COMPANION_DTYPES`."""

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "row_shape", _shape(self.row_shape))
        if self.dtype not in COMPANION_DTYPES:
            raise SettingError(f"A companion is kept as {', '.join(COMPANION_DTYPES)}, not {self.dtype!r}.")
        if self.row_shape.count(None) > 1 or any(size is not None and size < 1 for size in self.row_shape):
            raise SettingError(f"A companion needs positive sizes and at most one None, not {self.row_shape}.")

    @property
    def ragged(self) -> bool:
        """Whether its length differs from clip to clip."""
        return None in self.row_shape


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One encoder's features: what they are, how they were made, and how they are kept.

    Raises:
        SettingError: A field makes no sense.

    Example:
        >>> spec = StreamSpec("video", "qwen2_5_omni", {}, (None, 3584), 3584, "bfloat16")
        >>> spec.name, spec.modality, spec.ragged
        ('video/qwen2_5_omni', 'visual', True)
    """

    kind: str
    """The slot: `video`, `audio`, `frame`, `face`, ..., the first half of the stream's name."""
    encoder: str
    """The second half: letters, digits, `.`, `_` and `-`, such as `languagebind-video`."""
    fingerprint: dict[str, Any]
    """Everything the features depend on, as JSON: weights, preprocessing, layer, dtype."""
    row_shape: RowShape
    """Shape of one clip's features: `(T, N, C)`, `(S, C)`, `(C,)`, or `(None, C)` where the length differs by clip."""
    pooled_dim: int
    """D of the pooled vector."""
    dtype: str = "float16"
    """One of `FEATURE_DTYPES`."""
    rows_per_shard: int = 64
    modality: StreamModality | Literal[""] = ""
    """Empty: `audio` in the slot `audio`, `visual` in every other."""
    companions: Mapping[str, Companion] = field(default_factory=dict)
    longest: int = LONGEST
    """Most tokens of a row whose length differs by clip; longer rows fail."""
    chunk: int = 0
    """Tokens that share a checksum in rows whose length differs by clip; 0: a power of two of about 128 KiB."""

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "row_shape", _shape(self.row_shape))
        object.__setattr__(self, "companions", dict(self.companions))
        object.__setattr__(self, "modality", self.modality or default_modality(self.kind))
        for what, name in (("slot", self.kind), ("encoder name", self.encoder)):
            if not NAME.fullmatch(name) or (what == "slot" and name in SLOTS_TAKEN):
                raise SettingError(f"The {what} {name!r} can't be a folder; use letters, digits, '.', '_' and '-'.")
        if self.modality not in ("visual", "audio"):
            raise SettingError(f"A stream's modality is visual or audio, not {self.modality!r}.")
        if self.dtype not in FEATURE_DTYPES:
            raise SettingError(f"Features are kept as {', '.join(FEATURE_DTYPES)}, not {self.dtype!r}.")
        sizes = [size for size in self.row_shape if size is not None]
        if not sizes or min(*sizes, self.pooled_dim, self.rows_per_shard, self.longest) < 1 or self.chunk < 0:
            raise SettingError(
                f"A stream needs at least one feature axis and positive sizes, not row_shape={self.row_shape}, "
                f"pooled_dim={self.pooled_dim}, rows_per_shard={self.rows_per_shard}, longest={self.longest}."
            )
        if None in self.row_shape and (self.row_shape[0] is not None or len(self.row_shape) != 2):
            raise SettingError(f"Rows of any length have the shape (None, C), not {self.row_shape}.")
        if self.dtype == "int8" and len(self.row_shape) < 2:
            raise SettingError("int8 keeps a scale for each token; a stream of one vector a clip needs another dtype.")
        if self.ragged and not self.chunk:
            object.__setattr__(self, "chunk", self._default_chunk())
        for name, companion in self.companions.items():
            if not NAME.fullmatch(name) or name in RESERVED:
                raise SettingError(f"A companion can't be called {name!r}; use another name.")
            if companion.ragged and not self.ragged:
                raise SettingError(f"The companion {name} follows the length of rows, and this stream's are all alike.")

    def _default_chunk(self) -> int:
        """A power of two of tokens: of about `CHUNK_BYTES`, and no more than the longest row needs."""
        fitting = max(1, CHUNK_BYTES // self.row_bytes_of(1))
        return min(1 << (fitting.bit_length() - 1), 1 << (self.longest - 1).bit_length())

    @property
    def name(self) -> str:
        """The stream's name, `slot/encoder`."""
        return f"{self.kind}/{self.encoder}"

    @property
    def ragged(self) -> bool:
        """Whether the length of a row differs from clip to clip."""
        return self.row_shape[0] is None

    def sized(self, tokens: int) -> tuple[int, ...]:
        """Shape of a row of so many tokens; of fixed rows, their shape."""
        return sized(self.row_shape, tokens)

    def row_bytes_of(self, tokens: int = 1) -> int:
        """Bytes of a row of so many tokens on disk, without its pooled vector, companions, scale and checksums."""
        return math.prod(self.sized(tokens)) * (1 if self.dtype == "int8" else 2)

    @property
    def row_bytes(self) -> int:
        """Bytes of one clip's features on disk, or of one token's where the length differs by clip."""
        return self.row_bytes_of()

    def bare(self) -> StreamSpec:
        """The same stream with the shard size of no particular store, to compare two descriptions."""
        return replace(self, rows_per_shard=1, longest=1, chunk=1)


def default_modality(slot: str) -> StreamModality:
    """The modality of a slot's streams where they name none: sound in `audio`, pictures in every other."""
    return "audio" if slot == "audio" else "visual"


def sized(row_shape: RowShape, tokens: int) -> tuple[int, ...]:
    """A row's shape with its own length.

    Example:
        >>> sized((3, None, 16), 5)
        (3, 5, 16)
    """
    return tuple(tokens if size is None else size for size in row_shape)


def _shape(row_shape: RowShape) -> RowShape:
    return tuple(None if size is None else int(size) for size in row_shape)
