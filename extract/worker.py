"""A decoding worker: `python -m avem.extract.worker FD` reads tasks from a socket and answers each, until it closes.

Workers are plain subprocesses rather than `multiprocessing` ones: they import neither the parent's main module nor
torch, so they start in a fifth of a second, and scripts need no main guard.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from avem.errors import MediaError
from avem.extract.decode_task import DecodedClip, DecodeTask
from avem.extract.media import probe, read_sound, read_video
from avem.extract.pixels import preprocess_frames


def decode_clip(task: DecodeTask) -> DecodedClip:
    """Decode and preprocess a clip; a stream that can't be decoded is an entry, not an exception."""
    start = time.perf_counter()
    pixels = sound = info = None
    video_error = sound_error = ""
    fallbacks = []
    if "video" in task.wants:
        try:
            decoded = read_video(task.path, task.frames)
            pixels = preprocess_frames(decoded.frames, task.size)
            fallbacks += ["video"] * (decoded.decoder == "pyav")
        except MediaError as error:
            video_error = _without_folder(error, task.path)
    if "audio" in task.wants:
        try:
            decoded_sound = read_sound(task.sound_path)
            sound = decoded_sound.samples[: task.samples]
            fallbacks += ["audio"] * (decoded_sound.decoder == "pyav")
        except MediaError as error:
            sound_error = _without_folder(error, task.sound_path)
    with suppress(MediaError):
        info = probe(task.path)
    return DecodedClip(
        pixels=pixels,
        video_error=video_error,
        sound=sound,
        sound_error=sound_error,
        duration_s=info.duration_s if info else None,
        fps=info.fps if info else None,
        total_frames=info.frames if info else None,
        has_audio=info.has_audio or task.sound_path != task.path if info else None,
        fallbacks=tuple(fallbacks),
        seconds=time.perf_counter() - start,
    )


def _without_folder(error: MediaError, path: str) -> str:
    """The error's sentence with the file's name alone, so that a store does not depend on where its clips were."""
    return str(error).replace(path, Path(path).name)


def serve(connection: Connection) -> None:
    """Answer `DecodeTask`s with `DecodedClip`s, and with the memory held, until the other end closes."""
    while True:
        try:
            task = connection.recv()
            connection.send((decode_clip(task), _resident_bytes()))
        except (EOFError, ConnectionError):
            return


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
