"""How long a clip is, from the times of its packets: nothing is decoded, and no header is believed."""

from __future__ import annotations

from pathlib import Path

import av

from avem.extract.decode.containers import Clock, check_file, find_picture_stream, open_media, read_packets
from avem.extract.decode.decoded import TIME_LIMIT_S


def clip_length(path: str | Path, sound_path: str | Path, limit_s: float = TIME_LIMIT_S) -> float:
    """Seconds from a clip's first frame to the end of its last frame or of its last sound, whichever is later.

    Args:
        path: The media file.
        sound_path: The file that has its sound, mostly the same one.
        limit_s: How many seconds reading may take.

    Raises:
        MediaError: A file is missing, is not a media file, or takes too long.
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
        bases = {stream.index: float(stream.time_base or 0) for stream in streams}
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for packet in read_packets(container, streams, clock) if streams else ():
            stamp = packet.dts if packet.pts is None else packet.pts
            if not packet.size or packet.is_discard or stamp is None:
                continue
            index, end = packet.stream_index, stamp + (packet.duration or 0)
            if stamp < first.get(index, stamp + 1):
                first[index] = stamp
            if end > last.get(index, end - 1):
                last[index] = end
    if not last:
        return 0.0
    # The clip's clock starts with its first frame; where there is no picture, with its first sound.
    starts = {index: stamp * bases[index] for index, stamp in first.items()}
    start = starts[picture.index] if picture is not None and picture.index in starts else min(starts.values())
    return max(max(stamp * bases[index] for index, stamp in last.items()) - start, 0.0)
