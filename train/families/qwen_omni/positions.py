"""Three-axis position ids (TMRoPE) of a thinker: time, height and width for each token.

Text counts one id a token, the same on all axes. A medium's ids are offsets from the id at which it starts; after it,
text continues at the largest id of its last part, plus 1. Ids are float32, as transformers computes them: Qwen3-Omni's
have fractions, and Qwen2.5-Omni's whole numbers are exact up to 2^24.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from avem.train.model.media import Piece, Side

MERGE = 2
"""Patches that the vision tower merges along height and along width."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a family counts time."""

    ids_per_second: float
    """Temporal ids a second of media (`position_id_per_seconds`)."""
    whole: bool
    """Whether ids are cut to whole numbers (Qwen2.5-Omni)."""
    seconds_per_chunk: float | None
    """With sound inside the video: seconds of both that take turns (Qwen2.5-Omni), or None where every token is placed
    by its own time (Qwen3-Omni)."""


@dataclass(frozen=True, slots=True)
class VideoShape:
    """What the prompt and the positions have to know of a video."""

    grid: tuple[int, int, int]
    """Slots of time, and patches of height and width before merging."""
    seconds_per_slot: float

    @property
    def tokens_per_slot(self) -> int:
        """Tokens of one slot: a quarter of its patches."""
        return (self.grid[1] // MERGE) * (self.grid[2] // MERGE)

    @property
    def tokens(self) -> int:
        """Tokens of the whole video."""
        return self.grid[0] * self.tokens_per_slot


@dataclass(frozen=True, slots=True)
class SoundShape:
    """The same of a sound."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece of media lies: offsets of its ids from the id at which the medium starts."""

    offsets: bytes
    """float32 `[3, n]`, row by row."""
    end: float | None = None
    """Offset of the largest id that text after the piece has to exceed; None where the medium continues."""
    closing: int = 1
    """Text tokens that close the medium: one, or two where a sound lies inside a video."""

    @classmethod
    def of(cls, offsets: NDArray[np.float32], end: float | None = None, closing: int = 1) -> Place:
        """A place from offsets `[3, n]`."""
        return cls(np.ascontiguousarray(offsets, np.float32).tobytes(), end, closing)


@dataclass(frozen=True, slots=True)
class Counter:
    """Where text is: transformers adds counts to a base in float32, so base and count are kept apart.

    Once a video's last id has a fraction, adding 1 and 1 and adding 2 can round differently.
    """

    base: float = 0.0
    count: int = 0
    opened: bool = False
    """Whether the last token opens a video, which another token may turn into a video with sound inside."""
    closing: int = 0
    """Tokens still to come that close a medium."""

    @property
    def next(self) -> float:
        """The next text token's id."""
        return _sum(self.base, self.count)

    def ids(self, length: int) -> NDArray[np.float32]:
        """Ids `[length]` of the next tokens."""
        return np.float32(self.base) + np.arange(self.count, self.count + length, dtype=np.float32)


class ThreeAxisPositions:
    """Position ids of one sequence or of a prefix tree.

    Args:
        video_opener: Id of the text token that opens a video.
        audio_opener: Id of the one that opens a sound.
        shared: Whether the two tokens that open a video with its sound inside have one id, and the two that close it
            (Qwen2.5-Omni), or one each (Qwen3-Omni).

    Example:
        >>> positions = ThreeAxisPositions(video_opener=9, audio_opener=10, shared=False)
        >>> positions.text(positions.begin(), [7, 8])[0].tolist()
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """

    axes = 3

    def __init__(self, *, video_opener: int, audio_opener: int, shared: bool) -> None:
        self.video_opener = video_opener
        self.audio_opener = audio_opener
        self.shared = shared

    def begin(self) -> Counter:
        """Counts from 0."""
        return Counter()

    def text(self, state: Counter, ids: Sequence[int]) -> tuple[torch.Tensor, Counter]:
        """One id a token, float32 `[3, n]`."""
        parts: list[NDArray[np.float32]] = []
        start = 0
        while start < len(ids):
            if state.closing or ids[start] in (self.video_opener, self.audio_opener):
                numbers, state = self._marker(state, ids[start])
            else:
                markers = (i for i in range(start, len(ids)) if ids[i] in (self.video_opener, self.audio_opener))
                length = next(markers, len(ids)) - start
                numbers, state = state.ids(length), Counter(state.base, state.count + length)
            parts.append(numbers)
            start += len(numbers)
        return torch.from_numpy(np.concatenate(parts)).expand(3, -1), state

    def _marker(self, state: Counter, token: int) -> tuple[NDArray[np.float32], Counter]:
        """The id of one token that opens or closes a medium, each a new base."""
        number = np.array([state.next], np.float32)
        if state.closing == 1:
            return number, Counter(_sum(state.next, 1))
        if state.closing:
            return number, Counter(state.base, state.count + (not self.shared), closing=state.closing - 1)
        if state.opened and self.shared and token == self.audio_opener:
            return number - 1, Counter(state.base, state.count)
        return number, Counter(state.next, 1, opened=token == self.video_opener)

    def media(self, state: Counter, side: Side, piece: Piece) -> tuple[torch.Tensor, Counter]:
        """Ids float32 `[3, n]` of a piece whose `place` is a `Place`."""
        place = cast("Place", piece.place)
        offsets = np.frombuffer(place.offsets, np.float32).reshape(3, piece.size)
        ids = torch.from_numpy(offsets + np.float32(state.next))
        if place.end is None:
            return ids, state
        return ids, Counter(_sum(_sum(place.end, state.next), 1), closing=place.closing)


def _sum(first: float, second: float) -> float:
    """A sum in float32."""
    return float(np.float32(first) + np.float32(second))


@lru_cache(maxsize=4096)
def video_piece(video: VideoShape, timing: Timing) -> Piece:
    """A whole video by itself."""
    offsets = _video_offsets(video, timing)
    return Piece(0, video.tokens, Place.of(offsets, float(offsets.max())))


@lru_cache(maxsize=4096)
def sound_piece(sound: SoundShape) -> Piece:
    """A whole sound by itself."""
    return Piece(0, sound.tokens, Place.of(_sound_offsets(sound.tokens), float(sound.tokens - 1)))


@lru_cache(maxsize=1024)
def interleaved_pieces(
    video: VideoShape, sound: SoundShape, timing: Timing, start: float
) -> tuple[tuple[Side, Piece], ...]:
    """A video with its sound inside, in the order in which their tokens take turns.

    transformers decides twice: its processor orders the tokens, in float64 and from time 0, and its model orders the
    position ids, in float32 and from `start`. Both are repeated here, so that ids agree where rounding differs.

    Args:
        video: Its shape.
        sound: Its shape.
        timing: The family's.
        start: Id at which both start.

    Returns:
        Sides and pieces; only the last piece moves the text after it.
    """
    tokens = _turns(_token_times(video, timing), np.arange(sound.tokens), timing)
    offsets = {"video": _video_offsets(video, timing), "audio": _sound_offsets(sound.tokens)}
    first = np.float32(start)
    if timing.seconds_per_chunk is None:
        times = offsets["video"][0] + first, offsets["audio"][0] + first
    else:
        times = offsets["video"][0], offsets["audio"][0]
    turns = _turns(*times, timing)
    ids = np.concatenate([offsets[side][:, begin:stop] for side, begin, stop in turns], 1)  # [3, tokens]
    last_side, last_begin, last_stop = turns[-1]
    end = float(offsets[last_side][:, last_begin:last_stop].max())
    pieces: list[tuple[Side, Piece]] = []
    done = 0
    for side, begin, stop in _joined(tokens):
        size = stop - begin
        final = done + size == ids.shape[1]
        place = Place.of(ids[:, done : done + size], end if final else None, closing=2)
        pieces.append((side, Piece(begin, size, place)))
        done += size
    return tuple(pieces)


def _video_offsets(video: VideoShape, timing: Timing) -> NDArray[np.float32]:
    """Offsets `[3, tokens]`: time by slot, row and column inside a slot."""
    slots, rows, columns = video.grid[0], video.grid[1] // MERGE, video.grid[2] // MERGE
    # The products are taken one after the other in float32, as transformers takes them.
    times = np.arange(slots, dtype=np.float32) * np.float32(video.seconds_per_slot) * np.float32(timing.ids_per_second)
    if timing.whole:
        times = np.trunc(times)
    shape = (slots, rows, columns)
    axes = (
        np.broadcast_to(times[:, None, None], shape),
        np.broadcast_to(np.arange(rows, dtype=np.float32)[None, :, None], shape),
        np.broadcast_to(np.arange(columns, dtype=np.float32)[None, None, :], shape),
    )
    return np.stack([axis.reshape(-1) for axis in axes])


def _sound_offsets(tokens: int) -> NDArray[np.float32]:
    """Offsets `[3, tokens]`: the same number on all axes."""
    return np.broadcast_to(np.arange(tokens, dtype=np.float32), (3, tokens))


def _token_times(video: VideoShape, timing: Timing) -> NDArray[np.float64]:
    """When each video token comes, as the processor counts: float64, not cut to whole ids."""
    slots = np.repeat(np.arange(video.grid[0]), video.tokens_per_slot)
    return slots.astype(np.float64) * video.seconds_per_slot * timing.ids_per_second


Turn: TypeAlias = tuple[Side, int, int]
"""A side, and the first and one past the last of its tokens."""


def _turns(video: NDArray[np.floating], sound: NDArray[np.number], timing: Timing) -> list[Turn]:
    """Which tokens follow which, given the time of each in ids; the last turn is one part in transformers' sense."""
    if timing.seconds_per_chunk is None:
        return _by_time(video, sound)
    length = int(timing.ids_per_second * timing.seconds_per_chunk)
    seen, heard = _chunks(video, length), _chunks(sound, length)
    turns: list[Turn] = []
    for number in range(max(len(seen), len(heard))):
        if number < len(seen):
            turns.append(("video", *seen[number]))
        if number < len(heard):
            turns.append(("audio", *heard[number]))
    return turns


def _chunks(times: NDArray[np.number], length: int) -> list[tuple[int, int]]:
    """Cut tokens where their time reaches the next multiple of `length`.

    A slot that is longer than a chunk reaches several at once. transformers looks at one token at a time and moves on
    by one chunk a cut, so the slot's next tokens then become chunks of their own.
    """
    cuts = [0]
    for index, time in enumerate(times.tolist()):
        if time >= len(cuts) * length:
            cuts.append(index)
    return list(zip(cuts, [*cuts[1:], len(times)], strict=True))


def _by_time(video: NDArray[np.floating], sound: NDArray[np.number]) -> list[Turn]:
    """Merge tokens by time, video first where both are due; what is left of one side is the last turn."""
    turns: list[Turn] = []
    seen = heard = 0
    while seen < len(video) and heard < len(sound):
        if video[seen] <= sound[heard]:
            turns.append(("video", seen, seen + 1))
            seen += 1
        else:
            turns.append(("audio", heard, heard + 1))
            heard += 1
    if seen < len(video):
        turns.append(("video", seen, len(video)))
    if heard < len(sound):
        turns.append(("audio", heard, len(sound)))
    return turns


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbouring turns of one side as one; turns without tokens left out."""
    joined: list[Turn] = []
    for side, begin, stop in turns:
        if begin == stop:
            continue
        if joined and joined[-1][0] == side:
            joined[-1] = (side, joined[-1][1], stop)
        else:
            joined.append((side, begin, stop))
    return joined
