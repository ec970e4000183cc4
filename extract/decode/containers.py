"""Opening a media file, choosing its streams, and reading its packets: each bad file has its own plain reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from avem.errors import MediaError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
STILL_CODECS = frozenset({"mjpeg", "png", "apng", "bmp", "gif", "webp", "tiff", "jpegls", "jpeg2000", "ppm", "pgm"})
"""Codecs of pictures. Some make films too (MJPEG), so a stream of them counts as a picture if it has one packet."""
ATTACHED_PICTURE = 0x400
"""FFmpeg's AV_DISPOSITION_ATTACHED_PIC."""


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def check_file(path: Path) -> None:
    """Refuse what is not a media file at all.

    Raises:
        MediaError: It can't be read, is not a file, is empty, or is a Git LFS pointer.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise MediaError(f"{path} is not a file.")
        if size == 0:
            raise MediaError(f"{path} is empty.")
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise MediaError(f"{path} can't be read ({error.strerror}).") from error
    if start == LFS_POINTER:
        raise MediaError(f"{path} is a Git LFS pointer, not the media file; run `git lfs pull` where it comes from.")


class Clock:
    """A time limit for decoding one stream.

    Args:
        path: The file, for the message.
        limit_s: Seconds from now.
    """

    def __init__(self, path: Path, limit_s: float) -> None:
        self.path, self.limit_s = path, limit_s
        self._end = time.monotonic() + limit_s

    def check(self) -> None:
        """Raise if the time is up.

        Raises:
            MediaError: It is.
        """
        if time.monotonic() > self._end:
            raise MediaError(f"{self.path} took longer than {self.limit_s:g} s to decode.")


@contextmanager
def open_media(path: Path, clock: Clock) -> Iterator[InputContainer]:
    """Open a container; whatever FFmpeg says against the file becomes a `MediaError`.

    Raises:
        MediaError: It is not a media file, or it can't be read.
    """
    try:
        # The name is given as a URL, because FFmpeg takes a name such as `a:b.mp4` for one; reading that waits for
        # ever (a network disk that is gone) ends at the limit.
        with av.open(f"file:{path}", timeout=clock.limit_s, metadata_errors="replace") as container:
            if container.format.name.endswith("_pipe") or container.format.name == "image2":
                raise MediaError(f"{path} is a single picture, not a clip.")
            yield container
    except av.FFmpegError as error:
        clock.check()
        raise MediaError(f"{path} can't be decoded ({first_line(error)}).") from error


def picture_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """The first video stream that is a film, not a cover picture.

    Raises:
        MediaError: There is none.
    """
    stream = find_picture_stream(container)
    if stream is not None:
        return stream
    if container.streams.video:
        raise MediaError(f"{path} has no video stream, only a cover picture.")
    raise MediaError(f"{path} has no video stream.")


def find_picture_stream(container: InputContainer) -> av.VideoStream | None:
    """The first video stream that is a film, not a cover picture; None where there is none."""
    films = [stream for stream in container.streams.video if not stream.disposition & ATTACHED_PICTURE]
    return next((stream for stream in films if len(films) == 1 or not _is_still(stream)), None)


def _is_still(stream: av.VideoStream) -> bool:
    """Whether a stream's codec makes pictures and the file shows no second one."""
    if stream.codec_context.codec.name not in STILL_CODECS:
        return False
    return stream.frames <= 1 and not _has_two_packets(stream)


def _has_two_packets(stream: av.VideoStream) -> bool:
    with av.open(stream.container.name) as other:
        found = 0
        for packet in other.demux(other.streams[stream.index]):
            found += packet.size > 0
            if found == 2:
                return True
    return False


def promised_packets(container: InputContainer, stream: av.VideoStream) -> int:
    """How many packets the index of an MP4, or the header of an AVI, says there are; 0 elsewhere."""
    if "mov" in container.format.name.split(","):
        return len(getattr(stream, "index_entries", ()))  # after its edit list, unlike the header's count
    return stream.frames if container.format.name == "avi" else 0


def sound_stream(container: InputContainer, path: Path) -> av.AudioStream:
    """The first audio stream.

    Raises:
        MediaError: There is none.
    """
    if not container.streams.audio:
        raise MediaError(f"{path} has no audio stream.")
    return container.streams.audio[0]


def read_packets(container: InputContainer, streams: list[av.stream.Stream], clock: Clock) -> Iterator[av.Packet[Any]]:
    """The packets of some streams in the file's order, as far as they can be read; then an empty one for each stream.

    A file that breaks off ends here without an error; `avem.extract.decode.damage` and the callers see what is missing.
    """
    packets = container.demux(streams)
    while True:
        clock.check()
        try:
            yield next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            return
