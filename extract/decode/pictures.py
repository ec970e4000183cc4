"""Frames by PyAV: every packet is decoded in the file's order, and frames are numbered as they come out.

No index is trusted, because containers' indices count packets that never become frames, and in another order. Long
clips are the exception: there the packets' own time stamps prove which frame is which
(`avem.extract.decode.skipping`), so only the stretches before wanted frames are decoded. What does not fit the stamps
has every packet decoded after all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from avem.errors import MediaError
from avem.extract.decode import skipping
from avem.extract.decode.containers import Clock, open_media, picture_stream, promised_packets, read_packets
from avem.extract.decode.damage import check_decoded, check_length, check_whole
from avem.extract.decode.decoded import TIME_LIMIT_S, DecodedVideo, Frames, Indices, Span
from avem.extract.decode.wants import Sampling

KEPT_BYTES = 128 * 2**20
"""Packets kept in memory between passes; those of a larger file are read from it twice."""

Choose: TypeAlias = Callable[[Sequence[float]], Indices]
"""From the times of all frames to the numbers of the wanted ones."""


def read_pictures(
    path: Path, sampling: Sampling, span: Span | None = None, limit_s: float = TIME_LIMIT_S
) -> DecodedVideo:
    """Sample frames of a clip, or of a span of it.

    Raises:
        MediaError: The file is missing, damaged, takes too long, or has no video stream or no frame in the span.
    """
    clock = Clock(path, limit_s)
    check_whole(path)
    with open_media(path, clock) as container:
        stream = picture_stream(container, path)
        stream.thread_type = "NONE"
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        packets = _Packets(path, container, stream, clock)
        decoder = _Decoder(stream)

        def choose(times: Sequence[float]) -> Indices:
            return _wanted(path, times, sampling, rate, span)

        expected = packets.expected_times(rate)
        if not expected:
            raise MediaError(f"{path} has a video stream without frames.")
        check_length(path, "frames", packets.count, promised_packets(container, stream))
        found = _skipping(decoder, packets, choose(expected), expected)
        if found is None:
            found = decoder.decode(packets, set(choose(expected).tolist()))
            decoded = len(found.times)
            check_decoded(path, "frames", decoded, max(decoded + found.lost, packets.sure_frames(found)))
            wanted = choose(found.seconds(rate))
            if not found.pixels.keys() >= set(wanted.tolist()):  # fewer or more came out than were expected
                found.pixels = decoder.decode(packets, set(wanted.tolist())).pixels
        times = found.seconds(rate)
    numbers = choose(times)
    first, last = _bounds(times, span)
    fps = _rate(times, rate)
    return DecodedVideo(
        np.stack([found.pixels[number] for number in numbers.tolist()]),
        last - first,
        fps,
        "pyav",
        times[-1] - times[0] + (found.last_s or (1 / fps if fps else 0.0)),
        found.lost,
    )


def _wanted(path: Path, times: Sequence[float], sampling: Sampling, rate: float, span: Span | None) -> Indices:
    """Numbers of the frames to show; a span is of time since the first frame, its end left out."""
    first, last = _bounds(times, span)
    if first == last:
        where = "" if span is None else f" between {span[0]:g} and {span[1]:g} s"
        raise MediaError(f"{path} has no frame that can be decoded{where}.")
    return first + sampling.ids(last - first, _rate(times, rate))


def _bounds(times: Sequence[float], span: Span | None) -> tuple[int, int]:
    """Number of the first frame of a span and of the one after its last."""
    if span is None or not times:
        return 0, len(times)
    inside = [number for number, time in enumerate(times) if span[0] <= time - times[0] < span[1]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _rate(times: Sequence[float], promised: float) -> float:
    """Mean frame rate of what was decoded; the header's where it agrees, because its number is exact."""
    if len(times) < 2 or times[-1] <= times[0]:
        return promised
    measured = (len(times) - 1) / (times[-1] - times[0])
    return promised if abs(measured - promised) <= 0.01 * measured else measured


@dataclass(slots=True)
class _Found:
    """What one pass over the packets gave."""

    time_base: float
    pixels: dict[int, Frames] = field(default_factory=dict)
    """Wanted frames by number, uint8 [H, W, 3]."""
    times: list[int | None] = field(default_factory=list)
    """Time stamp of every frame that came out."""
    last_s: float = 0.0
    """How long the last frame is shown; 0 where the file does not say."""
    lost: int = 0
    """Packets that could not be decoded; those before the first frame are of a picture that starts later."""
    interlaced: bool = False

    def seconds(self, rate: float) -> list[float]:
        """Time of every frame; by its number where frames have no stamps or stamps that do not ascend."""
        stamps = [stamp for stamp in self.times if stamp is not None]
        if len(stamps) < len(self.times) or any(b <= a for a, b in pairwise(stamps)):
            return [number / (rate or 1.0) for number in range(len(self.times))]
        return [stamp * self.time_base for stamp in stamps]


class _Packets:
    """A video stream's packets: read once and kept, or read again where they are too many to keep."""

    def __init__(self, path: Path, container: InputContainer, stream: av.VideoStream, clock: Clock) -> None:
        self._path, self._index, self._clock = path, stream.index, clock
        self.time_base = float(stream.time_base or 0)
        self.count = 0
        """All of them, also empty ones and those outside of the edit list."""
        self.stamps: list[skipping.Stamp] | None = [] if skipping.can_prove(container, stream) else None
        self._shown: list[int | None] = []
        self._kept: list[av.Packet[Any]] | None = []
        size = 0
        for packet in read_packets(container, [stream], clock):
            self.count += packet.size > 0 or packet.dts is not None
            if not packet.size:
                continue
            size += packet.size
            if not packet.is_discard:
                self._shown.append(packet.pts)
            if self.stamps is not None:
                self.stamps.append(skipping.stamp(packet, stream))
            if size > KEPT_BYTES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(packet)

    def expected_times(self, rate: float) -> list[float]:
        """Times that frames should have, one for each packet inside of the edit list."""
        stamps = sorted(stamp for stamp in self._shown if stamp is not None)
        if len(stamps) < len(self._shown):
            return [number / (rate or 1.0) for number in range(len(self._shown))]
        return [stamp * self.time_base for stamp in stamps]

    def sure_frames(self, found: _Found) -> int:
        """How many frames must come out: one for each packet where that is sure; else 0."""
        return len(self._shown) if self.stamps and self.stamps[0].key and not found.interlaced else 0

    def between(self, start: int, stop: int) -> Iterator[av.Packet[Any]]:
        """Some of the packets, by number."""
        yield from islice(self, start, stop)

    def __iter__(self) -> Iterator[av.Packet[Any]]:
        if self._kept is not None:
            for packet in self._kept:
                self._clock.check()
                yield packet
            return
        with open_media(self._path, self._clock) as container:
            yield from _not_empty(read_packets(container, [container.streams[self._index]], self._clock))


def _not_empty(packets: Iterable[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    return (packet for packet in packets if packet.size)


class _Decoder:
    """Decodes packets in order and turns the wanted frames into RGB."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._context = stream.codec_context
        self._time_base = float(stream.time_base or 0)
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self.lost = 0

    def frames(self, packets: Iterable[av.Packet[Any]]) -> Iterator[av.VideoFrame]:
        """Every frame that comes out; packets that can't be decoded are counted in `lost`."""
        self.lost = 0
        self._context.flush_buffers()
        started = False
        for packet in chain(packets, (None,)):
            for frame in self._decode(packet):
                self.lost = self.lost if started else 0
                started = True
                yield frame

    def _decode(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        try:
            return list(self._context.decode(packet))
        except av.FFmpegError:
            self.lost += 1
            return []

    def decode(self, packets: Iterable[av.Packet[Any]], wanted: set[int]) -> _Found:
        """Decode all packets and keep the wanted frames."""
        found = _Found(self._time_base)
        for number, frame in enumerate(self.frames(packets)):
            found.times.append(frame.pts)
            found.interlaced |= bool(frame.interlaced_frame)
            found.last_s = (frame.duration or 0) * self._time_base
            if number in wanted:
                found.pixels[number] = self.rgb(frame)
        found.lost = self.lost
        return found

    def rgb(self, frame: av.VideoFrame) -> Frames:
        """A frame upright as uint8 [H, W, 3], in the size of the first one where a clip changes its size."""
        self._size = self._size or (frame.width, frame.height)
        width, height = self._size
        pixels = self._reformatter.reformat(frame, width, height, "rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))


def _skipping(decoder: _Decoder, packets: _Packets, wanted: Indices, expected: Sequence[float]) -> _Found | None:
    """The wanted frames without decoding the packets between; None where that is not proven or not worth it."""
    if packets.stamps is None or expected[-1] - expected[0] < skipping.LONG_S:
        return None
    stretches = skipping.plan(packets.stamps, wanted)
    if stretches is None:
        return None
    found = _Found(packets.time_base)
    for stretch in stretches:
        awaited = iter(stretch.expected)
        for frame in decoder.frames(packets.between(stretch.start, stretch.stop)):
            if frame.pts is not None and frame.pts < stretch.expected[0]:
                continue  # shown before the key frame, so not whole without the frames before it
            if frame.pts != next(awaited) or frame.is_corrupt or decoder.lost:
                return None
            if frame.pts in stretch.frames:
                found.pixels[stretch.frames[frame.pts]] = decoder.rgb(frame)
            if frame.pts == stretch.expected[-1]:
                break
    if found.pixels.keys() < set(wanted.tolist()):
        return None
    found.times = [*sorted(stamp.pts for stamp in packets.stamps if stamp.pts is not None and not stamp.discarded)]
    return found
