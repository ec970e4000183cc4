"""What goes into a store: the clips, what became of each row, and units of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from avem.cache.spec import Companion as Companion
from avem.cache.spec import StreamSpec as StreamSpec
from avem.records import Clip
from avem.records import Kind as Kind
from avem.text.names import storable

KINDS: tuple[Kind, ...] = ("video", "audio")

PENDING = "pending"
OK = "ok"
FAILED = "failed"


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
    kinds: tuple[str, ...]
    """Columns of the streams whose arrays are damaged in this row: `video` and `audio` in most stores."""
    entry: bool
    """Whether the row's entry in the manifest was edited, moved or lost."""

    def __new__(
        cls, row: int, clip_id: str, problem: str, kinds: tuple[str, ...] = (), *, entry: bool = False
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
