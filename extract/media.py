"""Decoding: sampled frames and 16 kHz mono sound, by decord, or by PyAV where decord fails on a file PyAV can read.

numpy, decord and PyAV alone are imported here, because every decoding worker pays for the imports. decord's own seeking
was measured against decoding every frame: equal on clips of a few seconds (12.0 and 11.9 ms), faster on long ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import av
import decord
import numpy as np
import numpy.typing as npt

from avem.errors import MediaError

logger = logging.getLogger(__name__)

Frames = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

RATE_HZ = 16000
MIN_SOUND_S = 1
"""Shorter sound is padded with zeros to this length."""
MAX_SOUND_S = 30
"""Longer sound is cut."""
WHOLE_SHARE = 0.9
"""Decoders give what a truncated file still holds; less than this share of what its header promises is damage."""

decord.logging.set_level(decord.logging.QUIET)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a container says about its clip."""

    duration_s: float
    fps: float
    """Mean frame rate; 0 where there is no video stream."""
    frames: int
    """0 where there is no video stream."""
    has_audio: bool


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """Sampled frames and what decoding told about the video stream."""

    frames: Frames
    """uint8 [T, H, W, 3], RGB."""
    total: int
    """Frames in the file."""
    fps: float
    decoder: str
    """`decord` or `pyav`."""


@dataclass(frozen=True, slots=True)
class DecodedSound:
    """Sound and who decoded it."""

    samples: Samples
    """float32 [samples] at 16 kHz, mono, 1 to 30 s."""
    duration_s: float
    """Before padding and cutting; of a cut file at least 30."""
    decoder: str
    """`decord` or `pyav`."""


def frame_ids(total: int, count: int) -> Indices:
    """Indices of `count` frames spread over a clip of `total`, truncated to whole numbers, int64 [count]."""
    return np.linspace(0, total - 1, count).astype(np.int64)


def sample_frames(path: str | Path, count: int) -> Frames:
    """Frames spread evenly over a clip, uint8 [count, H, W, 3], RGB; a short clip repeats frames.

    Raises:
        MediaError: The file is missing, damaged, or has no video stream.
    """
    return read_video(path, count).frames


def read_waveform(path: str | Path) -> Samples:
    """A file's sound, float32 [samples] at 16 kHz, mono, padded to 1 s and cut at 30 s.

    Raises:
        MediaError: The file is missing, damaged, or has no sound.
    """
    return read_sound(path).samples


def read_video(path: str | Path, count: int) -> DecodedVideo:
    """Sample `count` frames of a clip and learn its length and rate.

    Raises:
        MediaError: The file is missing, damaged, or has no video stream.
    """
    return _with_fallback(Path(path), lambda p: _decord_video(p, count), lambda p: _pyav_video(p, count))


def read_sound(path: str | Path) -> DecodedSound:
    """Decode a file's sound.

    Raises:
        MediaError: The file is missing, damaged, or has no sound.
    """
    sound = _with_fallback(Path(path), _decord_sound, _pyav_sound)
    samples = sound.samples[: MAX_SOUND_S * RATE_HZ]
    missing = MIN_SOUND_S * RATE_HZ - len(samples)
    return DecodedSound(np.pad(samples, (0, max(missing, 0))), sound.duration_s, sound.decoder)


def probe(path: str | Path) -> MediaInfo:
    """Read a container's header alone.

    Raises:
        MediaError: The file is missing or no media file.
    """
    path = Path(path)
    _check_file(path)
    try:
        with av.open(str(path)) as container:
            video = next(iter(container.streams.video), None)
            rate = float(video.average_rate or 0) if video else 0.0
            duration_s = (container.duration or 0) / av.time_base
            frames = 0 if video is None else video.frames or round(duration_s * rate)
            return MediaInfo(duration_s, rate, frames, bool(container.streams.audio))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path} is not a readable media file ({_first_line(error)}).") from error


def _with_fallback(path: Path, first: Callable[[Path], Result], second: Callable[[Path], Result]) -> Result:
    _check_file(path)
    try:
        return first(path)
    except (decord.DECORDError, RuntimeError, IndexError, ValueError) as error:
        logger.debug("decord failed on %s (%s); trying PyAV", path, error)
    try:
        return second(path)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise MediaError(f"{path} can't be decoded ({_first_line(error)}).") from error


def _check_file(path: Path) -> None:
    """Give the plain cases their plain names."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaError(f"{path} can't be read ({error.strerror}).") from error
    if not path.is_file():
        raise MediaError(f"{path} is not a file.")
    if size == 0:
        raise MediaError(f"{path} is empty.")


def _first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def _decord_video(path: Path, count: int) -> DecodedVideo:
    reader = decord.VideoReader(str(path), num_threads=1)
    if len(reader) == 0:
        raise ValueError("no frames")
    wanted, places = np.unique(frame_ids(len(reader), count), return_inverse=True)
    frames: Frames = reader.get_batch(wanted).asnumpy()
    return DecodedVideo(frames[places], len(reader), float(reader.get_avg_fps()), "decord")


def _pyav_video(path: Path, count: int) -> DecodedVideo:
    """Decode every frame and keep the wanted ones; the packets are counted first, which needs no decoding."""
    with av.open(str(path)) as container:
        stream = _only(container.streams.video, path, "video")
        promised = max(stream.frames, sum(packet.size > 0 for packet in container.demux(stream)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        wanted = frame_ids(promised, count)
        kept: dict[int, Frames] = {}
        total = 0
        for frame in container.decode(stream):
            if total in wanted or total == promised - 1:
                kept[total] = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            total += 1
        rate = float(stream.average_rate or 0)
    if total < WHOLE_SHARE * promised or not kept:
        raise MediaError(f"{path} is truncated: {total} of its {promised} frames can be decoded.")
    ids = [max(i for i in kept if i <= max(index, min(kept))) for index in wanted]
    return DecodedVideo(np.stack([kept[i] for i in ids]), total, rate, "pyav")


def _decord_sound(path: Path) -> DecodedSound:
    samples = decord.AudioReader(str(path), sample_rate=RATE_HZ, mono=True)[:].asnumpy()[0].astype(np.float32)
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError("no sound")
    with av.open(str(path)) as container:
        _check_whole(path, samples, container.streams.audio[0])
    return DecodedSound(samples, len(samples) / RATE_HZ, "decord")


def _pyav_sound(path: Path) -> DecodedSound:
    """Decode until the cut-off; the rest of a long file is not looked at."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    pieces: list[Samples] = []
    with av.open(str(path)) as container:
        stream = _only(container.streams.audio, path, "audio")
        for frame in container.decode(stream):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            if sum(map(len, pieces)) >= MAX_SOUND_S * RATE_HZ:
                break
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        _check_whole(path, samples, stream)
    if samples.size == 0:
        raise MediaError(f"{path} has an audio stream without sound in it.")
    return DecodedSound(samples.astype(np.float32), len(samples) / RATE_HZ, "pyav")


def _check_whole(path: Path, samples: Samples, stream: av.AudioStream) -> None:
    """Refuse sound that is much shorter than its stream's header promises."""
    promised_s = min(float((stream.duration or 0) * (stream.time_base or 0)), MAX_SOUND_S)
    if len(samples) / RATE_HZ < WHOLE_SHARE * promised_s - 0.1:
        raise MediaError(f"{path} is truncated: {len(samples) / RATE_HZ:.1f} s of {promised_s:.1f} s can be decoded.")


def _only(streams: Any, path: Path, kind: str) -> Any:
    if not streams:
        raise MediaError(f"{path} has no {kind} stream.")
    return streams[0]
