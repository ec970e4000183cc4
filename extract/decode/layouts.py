"""How long containers say they are: one reader of headers for each layout."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias


@dataclass(frozen=True, slots=True)
class Promise:
    """What a container says of its own length."""

    size: int | None = None
    """Bytes that the file should have at least; None where the header does not say."""
    breaks_off: str = ""
    """What the file ends in the middle of, where it does."""
    missing: str = ""
    """A part without which nothing can be read, where it is not there."""


Reader: TypeAlias = Callable[[BinaryIO, int], Promise]


MP4_BOXES = frozenset(
    b"ftyp moov mdat free skip wide pnot styp moof sidx uuid meta udta mfra emsg ssix prft pdin bloc PICT".split()
)
"""Kinds of boxes that stand side by side in a file."""


def _read_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def riff(file: BinaryIO, size: int) -> Promise:
    """AVI and WAV: the lengths of the RIFF parts (a large AVI has several), and of WAV's samples.

    Programs that write to a pipe leave 0 or all ones, for `unknown`.
    """
    position = 0
    while position + 12 <= size:
        head = _read_at(file, position, 12)
        if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
            break
        order = ">I" if head[:4] == b"RIFX" else "<I"
        (length,) = struct.unpack(order, head[4:8])
        if head[8:] == b"WAVE":
            return _wave(file, size, order)
        if not _is_known(length):
            return Promise()
        position += 8 + length + (length & 1)
    return Promise(position) if position else Promise()


def _wave(file: BinaryIO, size: int, order: str) -> Promise:
    """The `data` chunk decides: recorders that stop early may leave a wrong length for the whole."""
    position, wide = 12, None
    while position + 8 <= size:
        head = _read_at(file, position, 36)
        (length,) = struct.unpack(order, head[4:8])
        if head[:4] == b"ds64" and len(head) >= 24:
            wide = struct.unpack("<Q", head[16:24])[0]
        if head[:4] == b"data":
            length = wide if wide is not None and length == 0xFFFFFFFF else length
            return Promise(position + 8 + length) if wide is not None or _is_known(length) else Promise()
        position += 8 + length + (length & 1)
    return Promise(missing="`data` chunk")


def _is_known(length: int) -> bool:
    return 0 < length < 0x7FFFF000


def aiff(file: BinaryIO, size: int) -> Promise:
    """AIFF: the length of its FORM."""
    (length,) = struct.unpack(">I", _read_at(file, 4, 4))
    return Promise(8 + length) if _is_known(length) else Promise()


def mp4(file: BinaryIO, size: int) -> Promise:
    """MP4, MOV, M4A: where the last box should end; a fragmented file has its index in pieces."""
    position, kinds, cut = 0, set(), ""
    while position + 8 <= size:
        head = _read_at(file, position, 16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length == 0:
            position = size
        elif length < 8 or kind not in MP4_BOXES:
            break  # something that was added behind the last box
        kinds.add(kind)
        position += length
        cut = f"a `{kind.decode('latin-1')}` box" if position > size else ""
    missing = "" if b"moov" in kinds or b"moof" in kinds else "index (`moov` box)"
    return Promise(None if b"moof" in kinds else max(position, 1), cut, missing)


_EBML_SEGMENT, _EBML_CLUSTER = 0x18538067, 0x1F43B675


def matroska(file: BinaryIO, size: int) -> Promise:
    """Matroska and WebM: the length of the segment; a live one has none, and its elements are walked."""
    for kind, start, length in _elements(file, 0, size):
        if kind == _EBML_SEGMENT:
            if length is not None:
                return Promise(start + length)
            return Promise(breaks_off=_walk(file, start, size))
    return Promise()


def _walk(file: BinaryIO, start: int, size: int) -> str:
    """What the file ends in the middle of. A cluster without a length ends where the next one starts."""
    for kind, begin, length in _elements(file, start, size):
        if length is not None and begin + length > size:
            return "a cluster" if kind == _EBML_CLUSTER else "a block"
    return ""


def _elements(file: BinaryIO, position: int, size: int) -> Iterator[tuple[int, int, int | None]]:
    """Identifier, start of content and length of each element; clusters of unknown length are entered."""
    while position + 2 <= size:
        head = _read_at(file, position, 12)
        id_bytes = 9 - head[0].bit_length()
        if id_bytes > 4 or len(head) <= id_bytes:
            return
        kind = int.from_bytes(head[:id_bytes], "big")
        length_bytes = 9 - head[id_bytes].bit_length()
        if length_bytes > 8:
            return
        begin = position + id_bytes + length_bytes
        field = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big") & ((1 << 7 * length_bytes) - 1)
        length = None if field == (1 << 7 * length_bytes) - 1 else field
        yield kind, begin, length
        position = begin + (length or 0)


def asf(file: BinaryIO, size: int) -> Promise:
    """WMV and WMA: the file properties hold the length of the file, unless it was broadcast."""
    head = _read_at(file, 0, 65536)
    at = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if at < 0 or len(head) < at + 92:
        return Promise()
    (length,), (flags,) = struct.unpack("<Q", head[at + 40 : at + 48]), struct.unpack("<I", head[at + 88 : at + 92])
    return Promise(length) if length and not flags & 1 else Promise()


def flv(file: BinaryIO, size: int) -> Promise:
    """FLV: the length in its metadata, and whether its last tag is whole."""
    head = _read_at(file, 0, 16384)
    at = head.find(b"\x00\x08filesize\x00")
    if at >= 0 and len(head) >= at + 19:
        (length,) = struct.unpack(">d", head[at + 11 : at + 19])
        if length > 0:
            return Promise(int(length))
    (position,) = struct.unpack(">I", head[5:9])
    position += 4
    while position + 11 <= size:
        position += 11 + int.from_bytes(_read_at(file, position + 1, 3), "big") + 4
    return Promise(breaks_off="a tag" if position != size else "")


def transport_stream(file: BinaryIO, size: int) -> Promise:
    """MPEG-TS: whole packets of 188 bytes, or 192 with a time code before each, or 204 with parity after."""
    head = _read_at(file, 0, 1024)
    for step, first in ((188, 0), (192, 4), (204, 0)):
        if len(head) > first + 2 * step and all(head[first + step * n] == 0x47 for n in range(3)):
            return Promise(breaks_off="a packet" if size % step else "")
    return Promise()


def ogg(file: BinaryIO, size: int) -> Promise:
    """Ogg and Opus: whether the last page is whole."""
    tail_start = max(size - 2 * 65307, 0)
    tail = _read_at(file, tail_start, size - tail_start)
    at = tail.rfind(b"OggS\x00")
    if at < 0 or len(tail) < at + 27 or len(tail) < at + 27 + tail[at + 26]:
        return Promise(breaks_off="a page")
    segments = tail[at + 27 : at + 27 + tail[at + 26]]
    return Promise(breaks_off="a page" if tail_start + at + 27 + len(segments) + sum(segments) > size else "")


def program_stream(file: BinaryIO, size: int) -> Promise:
    """MPEG program stream (.mpg, .vob): whether the last packet is whole."""
    position = 0
    while position + 14 <= size:
        head = _read_at(file, position, 14)
        if head[:3] != b"\x00\x00\x01" or head[3] < 0xB9:
            return Promise()  # padding, or a stream that starts in the middle: FFmpeg finds its start
        if head[3] == 0xBA:
            position += 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
        elif head[3] == 0xB9:
            position += 4
        else:
            position += 6 + int.from_bytes(head[4:6], "big")
    return Promise(breaks_off="a packet" if position > size else "")


def mp3(file: BinaryIO, size: int) -> Promise:
    """MP3: the length that a Xing or Info header names; without one, any length is possible."""
    head = _read_at(file, 0, 10)
    start = 0
    if head[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    head = _read_at(file, start, 4096)
    at = min((head.find(tag) for tag in (b"Xing", b"Info") if tag in head), default=-1)
    if at < 0 or len(head) < at + 16 or not head[at + 7] & 2:
        return Promise()
    (length,) = struct.unpack(">I", head[at + 12 : at + 16] if head[at + 7] & 1 else head[at + 8 : at + 12])
    return Promise(start + length) if length else Promise()


def adts(file: BinaryIO, size: int) -> Promise:
    """AAC without a container: whether the last frame is whole."""
    position = 0
    while position + 7 <= size:
        head = _read_at(file, position, 7)
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or length < 7:
            return Promise()
        position += length
    return Promise(breaks_off="a frame" if position != size else "")


READERS: tuple[tuple[Callable[[bytes], bool], Reader], ...] = (
    (lambda start: start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"), riff),
    (lambda start: start[:4] == b"FORM", aiff),
    (lambda start: start[4:8] in MP4_BOXES, mp4),
    (lambda start: start[:4] == b"\x1a\x45\xdf\xa3", matroska),
    (lambda start: start[:8] == bytes.fromhex("3026b2758e66cf11"), asf),
    (lambda start: start[:3] == b"FLV", flv),
    (lambda start: start[:4] == b"OggS", ogg),
    (lambda start: start[:4] == b"\x00\x00\x01\xba", program_stream),
    (lambda start: start[:1] == b"\x47" or start[4:5] == b"\x47", transport_stream),
    (lambda start: start[:3] == b"ID3" or (start[0] == 0xFF and start[1] & 0xE6 in (0xE2, 0xE4, 0xE6)), mp3),
    (lambda start: start[0] == 0xFF and len(start) > 1 and start[1] & 0xF6 == 0xF0, adts),
)
"""How a file starts, and what reads its header."""
