"""How large features will be before any are made: from the headers of clips, which say their size and length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from avem.cache import ClipRecord, StreamSpec
from avem.cache.spec import COMPANION_DTYPES, sized
from avem.errors import MediaError
from avem.extract.decode.decoded import MAX_SOUND_S, MIN_SOUND_S
from avem.extract.decode.media import probe
from avem.progress import stage
from avem.text.sizes import size_text

MEASURED = 2_000
"""Clips whose headers are read; of more, so many spread over the dataset stand for all."""
THREADS = 4
WORTH = 0.95
"""Settings that save less than a twentieth are not shown."""


@dataclass(frozen=True, slots=True)
class ClipSize:
    """What a clip's header says, or that of a window of it."""

    duration_s: float
    fps: float
    frames: int
    height: int
    width: int
    sound_s: float
    """Of the sound that is encoded: at least 1 s and at most 30 s; 0 where there is none."""


Tokens = Callable[[ClipSize], int]
"""How many tokens a clip has in a stream; 0 where it will fail."""


@dataclass(frozen=True, slots=True)
class StreamSize:
    """How large a stream's pending rows are."""

    slot: str
    name: str
    clips: int
    tokens_a_clip: float
    """Their mean; of rows that are alike, the number of each."""
    bytes_a_clip: float
    measured: int = 0
    """How many clips' headers the means are of; 0 where all rows are alike."""
    smaller: Mapping[str, float] = field(default_factory=dict)
    """Bytes a clip with other settings, by what to give for them."""

    @property
    def bytes_total(self) -> float:
        """Of all clips."""
        return self.clips * self.bytes_a_clip

    def lines(self) -> list[str]:
        """The same in sentences, and what smaller settings would save."""
        basis = f" (by the headers of {self.measured} clips)" if self.measured else ""
        lines = [
            f"{self.slot}/{self.name}: {self.tokens_a_clip:,.0f} tokens and {size_text(self.bytes_a_clip)} a clip, "
            f"{size_text(self.bytes_total)} in all{basis}."
        ]
        for setting, size in self.smaller.items():
            saved = 100 * (1 - size / self.bytes_a_clip) if self.bytes_a_clip else 0.0
            total = size_text(self.clips * size)
            lines.append(f"  With {setting}: {size_text(size)} a clip, {total} in all, {saved:.0f} % less.")
        return lines


def measure_clips(root: Path, records: Sequence[ClipRecord]) -> list[ClipSize]:
    """Read the headers of some clips, at most `MEASURED` of them; files that can't be read are left out."""
    step = max(-(-len(records) // MEASURED), 1)
    chosen = records[::step]
    sizes: list[ClipSize] = []
    with stage("measure", len(chosen)) as bar, ThreadPoolExecutor(THREADS) as threads:
        for size in threads.map(lambda record: _measure(root, record), chosen):
            bar.advance(failures=size is None)
            if size is not None:
                sizes.append(size)
    return sizes


def _measure(root: Path, record: ClipRecord) -> ClipSize | None:
    try:
        info = probe(root / record.path)
    except MediaError:
        return None
    duration_s, frames = info.duration_s, info.frames
    if record.span is not None:
        duration_s = max(min(duration_s, record.span[1]) - record.span[0], 0.0)
        frames = round(duration_s * info.fps)
    heard = info.has_audio or bool(record.audio_path)
    sound_s = min(max(duration_s, MIN_SOUND_S), MAX_SOUND_S) if heard else 0.0
    return ClipSize(duration_s, info.fps, frames, info.height, info.width, sound_s)


def row_bytes(spec: StreamSpec, tokens: int) -> int:
    """Bytes on disk of a row of so many tokens, with its pooled vector, companions and scale, without checksums."""
    if spec.ragged:
        chunk = spec.chunk or 1
        tokens = -(-tokens // chunk) * chunk  # a row fills whole chunks
    size = spec.row_bytes_of(tokens) + 4 * spec.pooled_dim
    if spec.dtype == "int8":
        size += 4 * (_count(spec.row_shape[:-1], tokens) + 1)
    return size + sum(_count(one.row_shape, tokens) * COMPANION_DTYPES[one.dtype] for one in spec.companions.values())


def _count(shape: tuple[int | None, ...], tokens: int) -> int:
    total = 1
    for length in sized(shape, tokens):
        total *= length
    return total


def stream_size(
    spec: StreamSpec,
    clips: int,
    measured: Sequence[ClipSize] = (),
    tokens: Tokens | None = None,
    smaller: Mapping[str, Tokens] | None = None,
) -> StreamSize:
    """How large a stream's pending rows will be.

    Args:
        spec: The stream.
        clips: How many are pending.
        measured: Sizes of some of them.
        tokens: How many tokens a clip has; None where rows are alike.
        smaller: The same under other settings, by what to give for them.
    """
    if tokens is None:
        rows = _count(spec.row_shape[:-1], 1)
        return StreamSize(spec.kind, spec.encoder, clips, rows, row_bytes(spec, 1))

    def mean(count: Tokens) -> float:
        found = [row_bytes(spec, number) for size in measured if (number := count(size))]
        return sum(found) / max(len(found), 1)

    lengths = [number for size in measured if (number := tokens(size))]
    size = mean(tokens)
    less = {setting: mean(other) for setting, other in (smaller or {}).items()}
    less = {setting: other for setting, other in less.items() if other < WORTH * size}
    return StreamSize(spec.kind, spec.encoder, clips, sum(lengths) / max(len(lengths), 1), size, len(lengths), less)
