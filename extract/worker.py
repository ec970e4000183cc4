"""A decoding worker: `python -m avem.extract.worker FD` reads tasks from a socket and answers each, until it closes.

Workers are plain subprocesses rather than `multiprocessing` ones: they import neither the parent's main module nor
torch, so they start in a fifth of a second, and scripts need no main guard.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from avem.errors import MediaError
from avem.extract.decode_task import DecodedClip, DecodeTask
from avem.extract.media import read_sound, read_video
from avem.extract.pixels import preprocess_frames


def decode_clip(task: DecodeTask) -> DecodedClip:
    """Decode and preprocess a clip; a stream that can't be decoded is an entry, not an exception."""
    start = time.perf_counter()
    pixels = sound = duration_s = fps = total = has_audio = None
    video_error = sound_error = ""
    fallbacks = []
    if task.sound_path is not None:
        try:
            decoded_sound = read_sound(task.sound_path)
            sound, duration_s = decoded_sound.samples[: task.samples], decoded_sound.duration_s
            has_audio = True
            fallbacks += ["audio"] * (decoded_sound.decoder == "pyav")
        except MediaError as error:
            sound_error = _without_folder(error, task.sound_path)
            has_audio = False if "no audio stream" in sound_error else None
    if task.video_path is not None:
        try:
            decoded = read_video(task.video_path, task.frames)
            pixels = preprocess_frames(decoded.frames, task.size)
            fps, total = decoded.fps, decoded.total
            duration_s = total / fps if fps else duration_s
            fallbacks += ["video"] * (decoded.decoder == "pyav")
        except MediaError as error:
            video_error = _without_folder(error, task.video_path)
    seconds = time.perf_counter() - start
    return DecodedClip(
        pixels, video_error, sound, sound_error, duration_s, fps, total, has_audio, tuple(fallbacks), seconds
    )


def _without_folder(error: MediaError, path: str) -> str:
    """The error's sentence with the file's name alone, so that a store does not depend on where its clips were."""
    return str(error).replace(path, Path(path).name)


def serve(connection: Connection) -> None:
    """Answer `DecodeTask`s with `DecodedClip`s until the other end closes."""
    while True:
        try:
            task = connection.recv()
            connection.send(decode_clip(task))
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end closes this one
    gc.freeze()
    serve(Connection(int(sys.argv[1])))
