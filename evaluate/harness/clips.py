"""The media that a harness shows of a clip: the clip itself, its sound alone, its picture alone."""

from __future__ import annotations

import os
from pathlib import Path

import av
import av.error

from avem.endpoint.media_parts import wav_bytes
from avem.errors import MediaError
from avem.extract.decode.containers import Clock, find_picture_stream, open_media
from avem.extract.decode.decoded import TIME_LIMIT_S
from avem.extract.decode.media import read_sound
from avem.files import write_atomic
from avem.guards.disk import writing

VARIANTS = ("audiovisual", "audio", "visual")
"""What a model is shown of a clip."""
WHOLE = (0.0, 1e9)
"""A span that no clip is longer than."""


def clip_media(clip: Path, inside: str, out: Path, variants: tuple[str, ...]) -> dict[str, str]:
    """Write what the variants of a clip need, where it is not there yet.

    Args:
        clip: The user's media file. It is never copied whole: the audiovisual variant names it.
        inside: Its name in the export, such as `part_1/1.mp4`.
        out: Folder of the export.
        variants: Some of `VARIANTS`.

    Returns:
        Variant to file, absolute or relative to `out`; without those that the clip has no stream for.

    Raises:
        MediaError: The file can't be read.
    """
    found: dict[str, str] = {}
    if "audiovisual" in variants:
        found["audiovisual"] = str(clip.resolve())
    for variant, folder, suffix, write in (
        ("audio", "sound", ".wav", _write_sound),
        ("visual", "silent", clip.suffix, _write_picture),
    ):
        if variant not in variants:
            continue
        name = Path(folder) / Path(inside).with_suffix(suffix)
        target = out / name
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            if not write(clip, target):
                continue
        found[variant] = name.as_posix()
    return found


def _write_sound(clip: Path, target: Path) -> bool:
    """The sound as a 16-bit WAV file, 16 kHz, mono, on the picture's clock; False where there is none."""
    with open_media(clip, Clock(clip, TIME_LIMIT_S)) as container:
        if not container.streams.audio:
            return False
    write_atomic(target, wav_bytes(read_sound(clip, span=WHOLE).samples))
    return True


def _write_picture(clip: Path, target: Path) -> bool:
    """The picture without the sound, packet for packet as it is; False where there is none."""
    fresh = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        with open_media(clip, Clock(clip, TIME_LIMIT_S)) as source, writing(target):
            picture = find_picture_stream(source)
            if picture is None:
                return False
            with av.open(str(fresh), "w") as sink:
                copied = sink.add_stream_from_template(picture)
                for packet in source.demux(picture):
                    if packet.dts is not None:
                        packet.stream = copied
                        sink.mux(packet)
            fresh.replace(target)
    except av.error.FFmpegError as error:
        raise MediaError(f"The picture of {clip} can't be written without its sound ({error}).") from error
    finally:
        fresh.unlink(missing_ok=True)
    return True
