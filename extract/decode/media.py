"""Decoding: sampled frames, 16 kHz mono sound, and what a container says of itself.

PyAV decodes (`avem.extract.decode.pictures`, `avem.extract.decode.sounds`). decord decodes as the reference
implementation does, and is imported only then (`avem.extract.decode.decord_reader`). Nothing heavy
is imported here, because every decoding worker pays for it.
"""

from __future__ import annotations

from pathlib import Path

import av

from avem.errors import MediaError, SettingError
from avem.extract.decode.containers import Clock, check_file, find_picture_stream, open_media
from avem.extract.decode.decoded import (
    MAX_SOUND_S,
    MIN_SOUND_S,
    RATE_HZ,
    TIME_LIMIT_S,
    DecodedSound,
    DecodedVideo,
    Frames,
    Indices,
    MediaInfo,
    Samples,
    Span,
    frame_ids,
)
from avem.extract.decode.pictures import read_pictures
from avem.extract.decode.sounds import read_samples
from avem.extract.decode.wants import Evenly, Sampling
from avem.extract.defaults import DECODERS

__all__ = [
    "MAX_SOUND_S",
    "MIN_SOUND_S",
    "RATE_HZ",
    "DecodedSound",
    "DecodedVideo",
    "Frames",
    "Indices",
    "MediaInfo",
    "Samples",
    "frame_ids",
    "probe",
    "read_sound",
    "read_video",
    "read_waveform",
    "sample_frames",
]


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


def read_video(
    path: str | Path,
    sampling: int | Sampling,
    *,
    span: Span | None = None,
    decoder: str = "pyav",
    limit_s: float = TIME_LIMIT_S,
) -> DecodedVideo:
    """Sample frames of a clip and learn its length and rate.

    Args:
        path: The media file.
        sampling: T, how many frames: numbers `linspace(0, n - 1, T)`, truncated, of the n that can be decoded; or
            another rule of `avem.extract.decode.wants`.
        span: Only the frames shown between these seconds after the first frame; n is theirs alone then.
        decoder: `pyav`, or `decord` for the frames that the reference implementation takes, its errors included.
        limit_s: How many seconds decoding may take.

    Raises:
        MediaError: The file is missing, damaged, has no video stream, or takes too long.
        SettingError: There is no such decoder, or it can't do this.

    Example:
        >>> read_video("clip.mp4", 8, span=(30.0, 60.0)).frames.shape  # doctest: +SKIP
        (8, 720, 1280, 3)
    """
    path = Path(path)
    check_file(path)
    if decoder == "pyav":
        return read_pictures(path, Evenly(sampling) if isinstance(sampling, int) else sampling, span, limit_s)
    _check_decord(decoder, span)
    if not isinstance(sampling, int):
        raise SettingError("decord samples a number of frames only; use --decoder pyav for frames a second.")
    from avem.extract.decode.decord_reader import decord_video

    return decord_video(path, sampling, limit_s)


def read_sound(
    path: str | Path, *, span: Span | None = None, decoder: str = "pyav", limit_s: float = TIME_LIMIT_S
) -> DecodedSound:
    """Decode a file's sound, on the clock of its picture.

    Args:
        path: The media file.
        span: Only the sound between these seconds after the picture's first frame; None: the first 30.
        decoder: `pyav` or `decord`.
        limit_s: How many seconds decoding may take.

    Raises:
        MediaError: The file is missing, damaged, has no sound, or takes too long.
        SettingError: There is no such decoder, or it can't do this.
    """
    path = Path(path)
    check_file(path)
    if decoder == "pyav":
        return read_samples(path, span, limit_s)
    _check_decord(decoder, span)
    from avem.extract.decode.decord_reader import decord_sound

    return decord_sound(path, limit_s)


def _check_decord(decoder: str, span: Span | None) -> None:
    if decoder not in DECODERS:
        raise SettingError(f"The decoder must be one of {', '.join(DECODERS)}, not {decoder!r}.")
    if span is not None:
        raise SettingError("decord decodes whole clips only; use --decoder pyav for a part of one.")


def probe(path: str | Path) -> MediaInfo:
    """Read a container's header alone; decoding may find less than it promises.

    Raises:
        MediaError: The file is missing or no media file.
    """
    path = Path(path)
    check_file(path)
    try:
        with open_media(path, Clock(path, TIME_LIMIT_S)) as container:
            video = find_picture_stream(container)
            rate = float(video.average_rate or 0) if video else 0.0
            duration_s = (container.duration or 0) / av.time_base - max(container.start_time or 0, 0) / av.time_base
            frames = 0 if video is None else video.frames or round(duration_s * rate)
            height, width = (0, 0) if video is None else (video.height, video.width)
            return MediaInfo(duration_s, rate, frames, bool(container.streams.audio), height, width)
    except MediaError as error:
        raise MediaError(f"{path} is not a readable media file ({error})") from error
