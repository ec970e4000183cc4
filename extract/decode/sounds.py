"""Sound by PyAV at 16 kHz, mono, on the picture's clock: it starts where the first frame is shown.

FFmpeg's resampler makes the samples, as `ffmpeg -ar 16000 -ac 1` does. Sound that starts late is preceded by silence,
gaps are silence, and packets that can't be decoded are gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from avem.errors import MediaError
from avem.extract.decode.containers import Clock, find_picture_stream, open_media, read_packets, sound_stream
from avem.extract.decode.damage import check_decoded, check_length, check_whole
from avem.extract.decode.decoded import MAX_SOUND_S, MIN_SOUND_S, RATE_HZ, TIME_LIMIT_S, DecodedSound, Samples, Span

GAP_S = 0.1
"""A step in time stamps up to this is how containers round; FFmpeg's own resampler corrects from here on, too."""
LOST_GAP_S = 0.005
"""The same after a packet that could not be decoded."""
LATE_S = 0.005
"""Sound that starts at most this much later than the picture starts with it."""
EARLY_S = 0.1
"""Sound that starts at most this much earlier starts with the picture: encoders put a few milliseconds before it."""


def read_samples(path: Path, span: Span | None = None, limit_s: float = TIME_LIMIT_S) -> DecodedSound:
    """A file's sound, or that of a span of it, on the picture's clock.

    Raises:
        MediaError: The file is missing, damaged, takes too long, or has no sound (in the span).
    """
    clock = Clock(path, limit_s)
    check_whole(path)
    start_s, end_s = span or (0.0, float(MAX_SOUND_S))
    with open_media(path, clock) as container:
        stream = sound_stream(container, path)
        track = _Track(stream, end_s, (container.duration or 0) / av.time_base)
        shown_at = _decode(container, stream, track, clock)
        # Of the layouts that `check_whole` can't measure in bytes, FLAC alone has its length in its header.
        promised_s = float((stream.duration or 0) * (stream.time_base or 0)) if container.format.name == "flac" else 0
    if not track.pieces:
        raise MediaError(f"{path} has an audio stream without sound in it.")
    check_decoded(path, "packets of sound", track.packets - track.lost, track.packets)
    offset_s = track.offset_s(shown_at)
    check_length(path, "seconds of sound", round(track.end_s + offset_s, 3), promised_s)
    samples = track.between(start_s - offset_s, end_s - offset_s)
    duration_s = max(track.end_s + offset_s, 0.0)
    if span is not None:
        if duration_s <= start_s:
            raise MediaError(f"{path} has no sound between {start_s:g} and {end_s:g} s.")
        samples = samples[: max(round((min(end_s, duration_s) - start_s) * RATE_HZ), 0)]
    if not np.isfinite(samples).all():
        raise MediaError(f"{path} holds sound that is not a number (NaN or infinite).")
    silent = not samples.any()
    padded = np.pad(samples, (0, max(MIN_SOUND_S * RATE_HZ - len(samples), 0)))
    return DecodedSound(padded, duration_s, "pyav", silent, track.lost)


def _decode(container: InputContainer, stream: av.AudioStream, track: _Track, clock: Clock) -> float | None:
    """Fill the track; returns when the first frame of the picture is shown, None where there is no picture."""
    picture = find_picture_stream(container)
    streams: list[av.stream.Stream] = [stream] if picture is None else [stream, picture]
    shown_at: float | None = None
    for packet in read_packets(container, streams, clock):
        if not packet.size:
            continue
        if packet.stream.index == stream.index:
            track.add(packet, None if shown_at is None and picture is not None else shown_at or 0.0)
        elif shown_at is None and packet.is_keyframe:
            shown_at = _shown_at(packet, container)
    track.finish()
    return shown_at


def _shown_at(key: av.Packet[Any], container: InputContainer) -> float:
    """When the picture's first frame is shown, from the packet of its first key frame.

    An edit list drops what lies before the stream's own start. AVI has no times but counts packets, so FFmpeg's
    guesses are late by the frames that a decoder holds back; only the stream's start counts there.
    """
    base = float(key.stream.time_base or 0)
    start = float(key.stream.start_time or 0) * base
    if container.format.name == "avi" or key.pts is None:
        return start
    return max(key.pts * base, start)


@dataclass(slots=True)
class _Piece:
    """Sound without a gap, at 16 kHz."""

    start_s: float
    """Time stamp of its first sample."""
    samples: list[Samples] = field(default_factory=list)
    length: int = 0


class _Track:
    """Sound on the file's own time stamps.

    Args:
        stream: Where it is from.
        wanted_s: How much of it is to be decoded, in seconds from the picture's first frame; of the rest only the
            packets' times are looked at.
        known_end_s: Where the container says that it ends; 0 where it does not.
    """

    def __init__(self, stream: av.AudioStream, wanted_s: float, known_end_s: float) -> None:
        self._context, self._base = stream.codec_context, float(stream.time_base or 0)
        self._wanted_s, self._known_end_s = wanted_s, known_end_s
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._shift_s = self._next_s = 0.0
        self._lost_before = False
        self.pieces: list[_Piece] = []
        self.packets = self.lost = 0
        self.end_s = 0.0
        """Time stamp of its end, as far as it was decoded or its packets say."""

    def add(self, packet: av.Packet[Any], shown_at: float | None) -> None:
        """Decode a packet, or note when it ends where that is beyond what is wanted.

        Args:
            packet: The next one.
            shown_at: When the picture's first frame is shown; None: not known yet.
        """
        if self.pieces and shown_at is not None and packet.pts is not None:
            at_s = packet.pts * self._base + self._shift_s
            if at_s > max(self.pieces[0].start_s, shown_at) + self._wanted_s + 1.0:
                self.end_s = max(self.end_s, at_s + (packet.duration or 0) * self._base)
                return
        self.packets += 1
        self._frames(packet)

    def finish(self) -> None:
        """Take what the decoder and the resampler still hold."""
        self._frames(None)
        self._close()

    def offset_s(self, shown_at: float | None) -> float:
        """What to add to a time stamp to get seconds after the picture's first frame, or after the sound's start."""
        first = self.pieces[0].start_s
        together = shown_at is None or -EARLY_S <= first - shown_at <= LATE_S
        return -first if together or shown_at is None else -shown_at

    def between(self, start_s: float, end_s: float) -> Samples:
        """The samples between two time stamps, as far as there is sound; gaps are zero."""
        length = max(round((min(end_s, self.end_s) - start_s) * RATE_HZ), 0)
        samples: Samples = np.zeros(length, np.float32)
        for piece in self.pieces:
            sound = np.concatenate(piece.samples) if piece.samples else samples[:0]
            at = round((piece.start_s - start_s) * RATE_HZ)
            sound, at = sound[max(-at, 0) :], max(at, 0)
            part = samples[at : at + len(sound)]
            part[:] = sound[: len(part)]
        return samples

    def _frames(self, packet: av.Packet[Any] | None) -> None:
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError:
            self.lost += 1
            self._lost_before = True
            return
        for frame in frames:
            if frame.samples:
                self._take(frame)

    def _take(self, frame: av.AudioFrame) -> None:
        """Resample a frame; one that does not follow the frame before starts a piece of its own."""
        at_s = self._next_s if frame.pts is None else frame.pts * self._base + self._shift_s
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        step_s = at_s - self._next_s
        apart = step_s > (LOST_GAP_S if self._lost_before else GAP_S)
        if self.pieces and (step_s < -GAP_S or (apart and 0 < self._known_end_s + 1.0 < at_s)):
            self._shift_s -= step_s  # the clock was reset, as where recordings are joined: the sound continues
            at_s, apart = self._next_s, False
        if not self.pieces or apart or kind != self._format:
            self._close()
            self._next_s = at_s if apart or not self.pieces else self._next_s
            self.pieces.append(_Piece(self._next_s))
            self._resampler, self._format = av.AudioResampler("flt", "mono", RATE_HZ), kind
        self._lost_before = False
        self._next_s += frame.samples / frame.sample_rate
        frame.pts = None
        self._resample(frame)

    def _close(self) -> None:
        """Take what the resampler holds of the piece that ends."""
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _resample(self, frame: av.AudioFrame | None) -> None:
        if self._resampler is None:
            return
        piece = self.pieces[-1]
        for part in self._resampler.resample(frame):
            samples = np.frombuffer(
                memoryview(part.planes[0]), np.float32, part.samples
            )  # a view; to_ndarray takes as long as AAC
            piece.samples.append(samples.copy())
            piece.length += part.samples
        self.end_s = max(self.end_s, piece.start_s + piece.length / RATE_HZ)
