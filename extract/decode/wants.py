"""What an encoder wants of a clip: which frames and in which form, or how much sound. Light enough for every worker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from avem.extract.decode.decoded import Frames, Indices, frame_ids
from avem.extract.decode.pixels import preprocess_frames


class Sampling(Protocol):
    """Which frames of a clip are taken."""

    def ids(self, total: int, fps: float) -> Indices:
        """Numbers of the frames to take, int64 [T], ascending.

        Args:
            total: Frames that the clip, or the window of it, has; at least 1.
            fps: Frames a second; 0 where it is not known.
        """
        ...


class Prepare(Protocol):
    """What a worker makes of the frames, so that as little as possible is sent to the encoder's process."""

    def __call__(self, frames: Frames) -> npt.NDArray[Any]:
        """Prepare frames, uint8 [T, H, W, 3].

        Raises:
            MediaError: The clip's frames can't be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class Evenly:
    """So many frames spread over the clip; a short clip repeats frames.

    Example:
        >>> Evenly(4).ids(10, 25.0).tolist()
        [0, 3, 6, 9]
    """

    count: int

    def ids(self, total: int, fps: float) -> Indices:
        """See `Sampling`."""
        return frame_ids(total, self.count)


@dataclass(frozen=True, slots=True)
class First:
    """The first frame alone."""

    def ids(self, total: int, fps: float) -> Indices:
        """See `Sampling`."""
        return np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many frames a second, an even number of them, as `Qwen2VLVideoProcessor.sample_frames` of transformers.

    Example:
        >>> Rate(2.0).ids(50, 10.0).tolist()
        [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]
        >>> Rate(2.0).ids(1, 0.0).tolist()
        [0]
    """

    fps: float
    min_frames: int = 4
    max_frames: int = 768
    multiple: int = 2
    """The number of frames is divisible by this, but of clips with fewer frames."""

    def ids(self, total: int, fps: float) -> Indices:
        """See `Sampling`."""
        most = math.floor(min(self.max_frames, total) / self.multiple) * self.multiple
        wanted = total / fps * self.fps if fps else float(self.min_frames)
        count = min(max(wanted, self.min_frames), most, total)
        count = math.floor(count / self.multiple) * self.multiple
        if count < 1:
            return np.arange(total, dtype=np.int64)
        # torch.arange(0, total, total / count) of transformers rounds to float32 before it truncates. Of some clips it
        # gives one more number by rounding, past the end of the clip; that one is left out.
        return (np.arange(count) * (total / count)).astype(np.float32).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Square:
    """LanguageBind's pixels, float32 [3, T, S, S]."""

    size: int
    """S, side of the square that the encoder sees."""

    def __call__(self, frames: Frames) -> npt.NDArray[np.float32]:
        """See `Prepare`."""
        return preprocess_frames(frames, self.size)


@dataclass(frozen=True, slots=True)
class Plain:
    """Frames as they were decoded, uint8 [T, H, W, 3]."""

    def __call__(self, frames: Frames) -> Frames:
        """See `Prepare`."""
        return frames


@dataclass(frozen=True, slots=True)
class Pictures:
    """Frames of a clip in the form that an encoder wants."""

    sampling: Sampling
    prepare: Prepare


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound at 16 kHz, mono, of its true length."""

    samples: int
    """At most so many samples are handed over."""


Wants: TypeAlias = Pictures | Sound
