"""How long a clip is, from the times of its packets: nothing is decoded, and no header is believed."""

from __future__ import annotations

from pathlib import Path

import av

from avem.extract.containers import Clock, check_file, find_picture_stream, open_media, read_packets
from avem.extract.decoded import TIME_LIMIT_S


def clip_length(path: str | Path, sound_path: str | Path, limit_s: float = TIME_LIMIT_S) -> float:
    """Seconds from a clip's first frame to the end of its last frame or of its last sound, whichever is later.

    Args:
        path: The media file.
        sound_path: The file that has its sound, mostly the same one.
        limit_s: How many seconds reading may take.

    Raises:
        MediaError: A file is missing, is no media file, or takes too long.
    """
    path, sound_path = Path(path), Path(sound_path)
    length = _file_length(path, limit_s)
    return length if sound_path == path else max(length, _file_length(sound_path, limit_s))


def _file_length(path: Path, limit_s: float) -> float:
    check_file(path)
    clock = Clock(path, limit_s)
    with open_media(path, clock) as container:
        picture = find_picture_stream(container)
        sound = next(iter(container.streams.audio), None)
        streams: list[av.stream.Stream] = [stream for stream in (picture, sound) if stream is not None]
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for packet in read_packets(container, streams, clock) if streams else ():
            stamp = packet.dts if packet.pts is None else packet.pts
            if not packet.size or packet.is_discard or stamp is None:
                continue
            index, base = packet.stream.index, float(packet.stream.time_base or 0)
            first[index] = min(first.get(index, stamp * base), stamp * base)
            last[index] = max(last.get(index, 0.0), (stamp + (packet.duration or 0)) * base)
    if not last:
        return 0.0
    # The clip's clock starts with its first frame; where there is no picture, with its first sound.
    start = first[picture.index] if picture is not None and picture.index in first else min(first.values())
    return max(max(last.values()) - start, 0.0)
