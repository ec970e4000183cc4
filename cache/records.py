"""What goes into a store: the description of a stream, the clips, what became of each row, and units of work."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from avem.errors import SettingError
from avem.records import Clip
from avem.records import Kind as Kind
from avem.text.names import storable

KINDS: tuple[Kind, ...] = ("video", "audio")

FEATURE_DTYPES = ("float16", "bfloat16", "int8")
"""How features are kept; int8 has a float32 scale per token beside it."""

PENDING = "pending"
OK = "ok"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One encoder's features: what they are, how they were made, and how they are kept.

    Raises:
        SettingError: A field makes no sense.
    """

    kind: Kind
    encoder: str
    """Folder name of the stream, letters, digits, `.`, `_` and `-`: `languagebind-video`."""
    fingerprint: dict[str, Any]
    """Everything the features depend on, as JSON: weights, preprocessing, layer, dtype."""
    row_shape: tuple[int, ...]
    """Shape of one clip's features: `(T, N, C)` for video, `(S, C)` for audio."""
    pooled_dim: int
    """D of the pooled vector."""
    dtype: str = "float16"
    """One of `FEATURE_DTYPES`."""
    rows_per_shard: int = 64

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "row_shape", tuple(int(size) for size in self.row_shape))
        if self.kind not in KINDS:
            raise SettingError(f"A stream is of kind {' or '.join(KINDS)}, not {self.kind!r}.")
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", self.encoder):
            raise SettingError(
                f"The encoder name {self.encoder!r} can't be a folder; use letters, digits, '.', '_' and '-'."
            )
        if self.dtype not in FEATURE_DTYPES:
            raise SettingError(f"Features are kept as {', '.join(FEATURE_DTYPES)}, not {self.dtype!r}.")
        if len(self.row_shape) < 2 or min(*self.row_shape, self.pooled_dim, self.rows_per_shard) < 1:
            raise SettingError(
                f"A stream needs at least two feature axes and positive sizes, not row_shape={self.row_shape}, "
                f"pooled_dim={self.pooled_dim}, rows_per_shard={self.rows_per_shard}."
            )

    @property
    def row_bytes(self) -> int:
        """Bytes of one clip's features on disk, without its pooled vector, scale and checksums."""
        return math.prod(self.row_shape) * (1 if self.dtype == "int8" else 2)


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip as it enters the manifest: where its file is, which content it has, and its label."""

    clip_id: str
    dataset: str
    path: str
    """Media file, relative to the dataset's root, with forward slashes."""
    sha256: str
    """SHA-256 of the media file, hexadecimal; tells a changed file from the same one."""
    size_bytes: int = 0
    modified_ns: int = 0
    """Modification time of the media file, nanoseconds since the epoch, so that a rerun need not hash it again."""
    split: str = ""
    emotion: str | None = None
    """One of the seven labels of `avem.records.Emotion`, or None."""
    emotions_raw: str = ""
    source: str = ""
    """Speaker or source video; empty where unknown."""
    audio_path: str = ""
    start_s: float | None = None
    """Of a window, where it starts in the file, in seconds after the first frame; None for a whole clip."""
    end_s: float | None = None
    """Of a window, where it ends."""

    @property
    def span(self) -> tuple[float, float] | None:
        """Of a window, its start and end in seconds; None for a whole clip."""
        return None if self.start_s is None or self.end_s is None else (self.start_s, self.end_s)

    def __post_init__(self) -> None:
        """Make all but the paths text that UTF-8 can hold; paths stay as they are, to be opened."""
        for name in ("clip_id", "dataset", "split", "emotions_raw", "source"):
            object.__setattr__(self, name, storable(getattr(self, name)))

    @classmethod
    def of(cls, clip: Clip, sha256: str, size_bytes: int = 0, modified_ns: int = 0) -> ClipRecord:
        """The manifest's record of a clip that a dataset reader found."""
        return cls(
            clip_id=clip.clip_id,
            dataset=clip.dataset,
            path=clip.path,
            sha256=sha256,
            size_bytes=size_bytes,
            modified_ns=modified_ns,
            split=clip.split,
            emotion=None if clip.emotion is None else str(clip.emotion),
            emotions_raw=clip.emotions_raw,
            source=clip.source,
            audio_path=clip.audio_path,
        )


@dataclass(frozen=True, slots=True)
class RowDetails:
    """What became of one clip in one stream, and what decoding told about its file (None: not learned)."""

    status: Literal["ok", "failed"] = "ok"
    reason: str = ""
    """Why it failed, in a few words; ignored for `ok`."""
    duration_s: float | None = None
    fps: float | None = None
    frames: int | None = None
    has_audio: bool | None = None
    decoder: str | None = None
    """Which decoder read this stream; None: decord, before there was a choice."""
    silent: bool | None = None
    """Whether every sample of the sound is zero; None for video, and where the sound could not be decoded."""

    @property
    def manifest_status(self) -> str:
        """The status as the manifest spells it: `ok` or `failed: reason`."""
        return OK if self.status == OK else storable(f"{FAILED}: {self.reason or 'no reason given'}")


@dataclass(frozen=True, slots=True)
class ClipFailure:
    """A clip that has no features of a kind, and why."""

    clip_id: str
    """Or a folder that can't be listed, with a slash at its end."""
    kind: str
    """`video`, `audio`, or `file` where the file itself could not be read."""
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows of one shard that are still to be written, ascending: the unit of work and of commit."""

    index: int
    rows: Sequence[int]
    """A `range`, or a list where failed rows are tried again."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file of a store that is not what was written."""

    path: str
    """Relative to the store."""
    problem: str
    """What is wrong with it, as the end of a sentence."""
    remedy: str
    """What to do, as the end of a sentence."""

    def __str__(self) -> str:
        return f"{self.path} {self.problem}; {self.remedy}"


class DamagedRow(int):
    """The number of a damaged row, which also knows what is wrong with it."""

    clip_id: str
    problem: str
    kinds: tuple[Kind, ...]
    """Streams whose arrays are damaged in this row."""
    entry: bool
    """Whether the row's entry in the manifest was edited, moved or lost."""

    def __new__(
        cls, row: int, clip_id: str, problem: str, kinds: tuple[Kind, ...] = (), *, entry: bool = False
    ) -> DamagedRow:
        """A row number with the clip it belongs to, one sentence about the damage, and where the damage is."""
        damaged = super().__new__(cls, row)
        damaged.clip_id, damaged.problem, damaged.kinds, damaged.entry = clip_id, problem, kinds, entry
        return damaged

    @property
    def row(self) -> int:
        """The row as a plain integer."""
        return int(self)

    def __repr__(self) -> str:
        return f"DamagedRow({int(self)}, {self.clip_id!r}, {self.problem!r})"
