"""Which packets of a long clip need no decoding, because their time stamps and their form prove which frames they are.

Only H.264 and HEVC in MP4 and Matroska are proven: there a packet is one frame, a stamp is that frame's own, and the
lengths inside a packet show damage without decoding it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av

from avem.extract.decode.decoded import Indices

LONG_S = 20.0
"""Shorter clips have every packet decoded."""
WORTH = 0.85
"""Skipping is worth it where at most this share of the packets is left to decode."""
STAMPED_CONTAINERS = frozenset({"mov", "matroska"})
KEY_TYPES = {"h264": frozenset({5}), "hevc": frozenset({16, 17, 18, 19, 20, 21})}
"""NAL unit types of a frame that needs none before it."""
SLICE_TYPES = {"h264": frozenset({1, 5}), "hevc": frozenset(range(22))}
"""NAL unit types that hold a frame's pixels."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a packet says about its frame."""

    pts: int | None
    discarded: bool
    """Whether the edit list leaves the frame out."""
    whole: bool
    """Whether the packet has the form of one frame."""
    key: bool
    """Whether decoding can start here."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Packets to decode in one go."""

    start: int
    """Number of the first packet, a key frame."""
    stop: int
    """Number of the packet after the last that may be needed."""
    frames: dict[int, int]
    """Wanted frames: time stamp to number."""
    expected: list[int]
    """Time stamps of the frames from the key frame's to the last wanted one's, in order."""


def can_prove(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether packets of this codec in this container can prove their frames."""
    named = bool(STAMPED_CONTAINERS & set(container.format.name.split(",")))
    return named and stream.codec_context.codec.canonical_name in KEY_TYPES and _length_bytes(stream) > 0


def stamp(packet: av.Packet[Any], stream: av.VideoStream) -> Stamp:
    """Look at a packet of a stream that `can_prove`."""
    codec = stream.codec_context.codec.canonical_name
    types = _nal_types(memoryview(packet), _length_bytes(stream), codec)
    slices = [kind for kind in types or () if kind in SLICE_TYPES[codec]]
    whole = bool(slices) and not packet.is_corrupt
    key = whole and packet.is_keyframe and set(slices) <= KEY_TYPES[codec]
    return Stamp(packet.pts, packet.is_discard, whole, key)


def plan(stamps: Sequence[Stamp], wanted: Indices) -> list[Stretch] | None:
    """The stretches that hold the wanted frames, or None where every packet has to be decoded.

    Args:
        stamps: Of every packet, in the file's order.
        wanted: Numbers of frames in the order in which they are shown.
    """
    shown = sorted(item.pts for item in stamps if item.pts is not None and not item.discarded)
    if not stamps or not stamps[0].key or not all(item.whole and item.pts is not None for item in stamps):
        return None
    if len(set(item.pts for item in stamps)) != len(stamps):
        return None
    keys = [number for number, item in enumerate(stamps) if item.key]
    key_pts = [stamps[number].pts or 0 for number in keys]
    if key_pts != sorted(key_pts):
        return None
    by_key: dict[int, dict[int, int]] = {}
    for number in sorted(set(wanted.tolist())):
        key = bisect_right(key_pts, shown[number]) - 1
        if key < 0:
            return None
        by_key.setdefault(key, {})[shown[number]] = number
    stretches = [_stretch(stamps, shown, keys, key, frames) for key, frames in by_key.items()]
    needed = sum(len(stretch.expected) for stretch in stretches)
    return stretches if needed <= WORTH * len(stamps) else None


def _stretch(
    stamps: Sequence[Stamp], shown: Sequence[int], keys: Sequence[int], key: int, frames: dict[int, int]
) -> Stretch:
    """The packets from a key frame to the key frame after the next: leading frames of the next belong here too."""
    start, last = keys[key], max(frames)
    first_pts = stamps[start].pts or 0
    expected = [pts for pts in shown if first_pts <= pts <= last]
    stop = keys[key + 2] if key + 2 < len(keys) else len(stamps)
    return Stretch(start, stop, frames, expected)


def _length_bytes(stream: av.VideoStream) -> int:
    """How many bytes the length before each NAL unit has; 0 where units are not stored with lengths."""
    extra = stream.codec_context.extradata or b""
    at = {"h264": 4, "hevc": 21}.get(stream.codec_context.codec.canonical_name, len(extra))
    return (extra[at] & 3) + 1 if len(extra) > at and extra[0] == 1 else 0


def _nal_types(data: memoryview, length_bytes: int, codec: str) -> list[int] | None:
    """Types of the NAL units of a packet; None where their lengths do not add up or a unit is none."""
    types: list[int] = []
    position, size = 0, len(data)
    while position < size:
        length = int.from_bytes(data[position : position + length_bytes], "big")
        position += length_bytes
        if length < 2 or position + length > size or data[position] & 0x80:
            return None
        types.append(data[position] & 0x1F if codec == "h264" else data[position] >> 1 & 0x3F)
        position += length
    return types
