"""A decoding worker: `python -m avem.extract.decode.worker FD` reads tasks from a socket and answers each.

It ends when the socket closes.

Workers are plain subprocesses rather than `multiprocessing` ones: they import neither the parent's main module nor
torch, so they start in a fifth of a second, and scripts need no main guard.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from avem.errors import MediaError
from avem.extract.decode.decoded import DecodedVideo
from avem.extract.decode.lengths import clip_length
from avem.extract.decode.media import probe, read_sound, read_video
from avem.extract.decode.task import DecodedClip, DecodeTask, merge_parts, remaining_streams
from avem.extract.decode.wants import Sampling

TORCH_BYTES = 192 * 2**20
"""Memory of a process after `import torch` over what it had before; some encoders' frames are resized by torch."""


def decode_clip(task: DecodeTask) -> DecodedClip:
    """Decode and preprocess a clip; a stream that can't be decoded is an entry, not an exception."""
    return merge_parts(list(decode_parts(task)))


def decode_parts(task: DecodeTask) -> Iterator[DecodedClip]:
    """A clip's streams one by one, so that one is safe before the next, which may crash or hang, is begun."""
    parts = {"length": _length, "video": _pictures, "audio": _sound}
    for name in remaining_streams(task, 0):
        yield parts[name](task)


def _length(task: DecodeTask) -> DecodedClip:
    start, length_s = time.perf_counter(), None
    with suppress(MediaError):  # decoding will say what is wrong with the file
        length_s = clip_length(task.path, task.sound_path)
    return DecodedClip(duration_s=length_s, seconds=time.perf_counter() - start)


def _sound(task: DecodeTask) -> DecodedClip:
    start = time.perf_counter()
    try:
        if task.decoder == "decord":
            from avem.extract.decode.decord_reader import sound_here

            decoded = sound_here(Path(task.sound_path))
        else:
            decoded = read_sound(task.sound_path, span=task.span)
    except MediaError as error:
        return DecodedClip(
            sound_error=_without_folder(error, task.sound_path),
            has_audio=_has_audio(task),
            seconds=time.perf_counter() - start,
        )
    return DecodedClip(
        sound=decoded.samples[: task.samples],
        sound_duration_s=decoded.duration_s,
        silent=decoded.silent,
        has_audio=True,
        seconds=time.perf_counter() - start,
    )


def _pictures(task: DecodeTask) -> DecodedClip:
    start = time.perf_counter()
    try:
        decoded = {wanted.sampling: _sample(task, wanted.sampling) for wanted in task.pictures}
        pictures = tuple(wanted.prepare(decoded[wanted.sampling].frames) for wanted in task.pictures)
    except MediaError as error:
        return DecodedClip(
            video_error=_without_folder(error, task.path),
            has_audio=_has_audio(task),
            seconds=time.perf_counter() - start,
        )
    first = decoded[task.pictures[0].sampling]
    return DecodedClip(
        pictures=pictures,
        duration_s=first.duration_s,
        fps=first.fps,
        total_frames=first.total,
        has_audio=_has_audio(task),
        seconds=time.perf_counter() - start,
    )


def _sample(task: DecodeTask, sampling: Sampling) -> DecodedVideo:
    """The frames that a rule takes; each rule of a task decodes the clip once."""
    if task.decoder == "decord":
        from avem.extract.decode.decord_reader import video_here

        return video_here(Path(task.path), sampling)
    return read_video(task.path, sampling, span=task.span)


def _has_audio(task: DecodeTask) -> bool | None:
    """Whether the clip has sound, by its header or as a file of its own."""
    if task.sound_path != task.path:
        return True
    try:
        return probe(task.path).has_audio
    except MediaError:
        return None


def _without_folder(error: MediaError, path: str) -> str:
    """The error's sentence with the file's name alone, so that a store does not depend on where its clips were."""
    return str(error).replace(path, Path(path).name)


def serve(connection: Connection) -> None:
    """Answer `DecodeTask`s with a `DecodedClip` for each stream, and the memory held, until the other end closes."""
    while True:
        try:
            task = connection.recv()
            for part in decode_parts(task):
                connection.send((part, max(_resident_bytes() - _torch_bytes(), 0)))
        except (EOFError, ConnectionError):
            return


def _torch_bytes() -> int:
    """What torch takes of this process's memory, which a fresh worker would take as well; 0 where it is not used."""
    return TORCH_BYTES if "torch" in sys.modules else 0


def _resident_bytes() -> int:
    """This process's memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end closes this one
    gc.freeze()
    serve(Connection(int(sys.argv[1])))
