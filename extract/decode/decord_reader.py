"""decord decodes a file as the reference implementation does, its errors included.

It can hang on a file and can't be interrupted, so from Python it runs in a process of its own that is killed at the
time limit. Decoding workers have a limit already and use `here`.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from avem.errors import MediaError, SettingError
from avem.extract.decode.containers import first_line
from avem.extract.decode.decoded import MAX_SOUND_S, MIN_SOUND_S, RATE_HZ, DecodedSound, DecodedVideo
from avem.extract.decode.wants import Evenly, Sampling
from avem.processes import module_command

REFUSED = 3
"""Exit status of the process where the file is at fault; the reason is on its standard error."""


def decord_video(path: Path, count: int, limit_s: float) -> DecodedVideo:
    """`video_here`, with a time limit."""
    found = _in_process(path, ["video", str(path), str(count)], limit_s)
    return DecodedVideo(found["frames"], int(found["total"]), float(found["fps"]), "decord", float(found["duration_s"]))


def decord_sound(path: Path, limit_s: float) -> DecodedSound:
    """`sound_here`, with a time limit."""
    found = _in_process(path, ["sound", str(path)], limit_s)
    return DecodedSound(found["samples"], float(found["duration_s"]), "decord", bool(found["silent"]))


def video_here(path: Path, sampling: Sampling) -> DecodedVideo:
    """The frames at decord's own index, in this process; may hang.

    Raises:
        MediaError: decord can't decode the file.
        SettingError: decord is not installed.
    """
    decord = _import_decord()
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        total = len(reader)
        if total == 0:
            raise MediaError(f"{path} has no frames.")
        fps = float(reader.get_avg_fps())
        wanted, positions = np.unique(sampling.ids(total, fps), return_inverse=True)
        frames = reader.get_batch(wanted).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError, ValueError) as error:
        raise MediaError(f"{path} can't be decoded by decord ({first_line(error)}).") from error
    return DecodedVideo(frames[positions], total, fps, "decord", total / fps if fps else 0.0)


def sound_here(path: Path) -> DecodedSound:
    """Samples by decord, in this process; may hang.

    Raises:
        MediaError: decord can't decode the file.
        SettingError: decord is not installed.
    """
    decord = _import_decord()
    try:
        reader = decord.AudioReader(str(path), sample_rate=RATE_HZ, mono=True)
        samples = reader[:].asnumpy()[0].astype(np.float32)
    except (decord.DECORDError, RuntimeError, IndexError, ValueError) as error:
        raise MediaError(f"{path} can't be decoded by decord ({first_line(error)}).") from error
    if samples.size == 0 or not np.isfinite(samples).all():
        raise MediaError(f"{path} has no sound that decord can decode.")
    cut = samples[: MAX_SOUND_S * RATE_HZ]
    padded = np.pad(cut, (0, max(MIN_SOUND_S * RATE_HZ - len(cut), 0)))
    return DecodedSound(padded, len(samples) / RATE_HZ, "decord", not cut.any())


def _import_decord() -> ModuleType:
    try:
        import decord
    except ImportError as error:
        raise SettingError(
            "--decoder decord needs the package decord, which is not installed here (it has no wheel for macOS and "
            "for Linux on arm64); use --decoder pyav."
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    module: ModuleType = decord
    return module


def _in_process(path: Path, arguments: list[str], limit_s: float) -> dict[str, Any]:
    command = module_command("avem.extract.decode.decord_reader", *arguments)
    environment = {**os.environ, "DECORD_EOF_RETRY_MAX": "2048"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise MediaError(f"{path} took longer than {limit_s:g} s to decode.") from error
    if done.returncode == REFUSED:
        raise MediaError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    if done.returncode:
        raise MediaError(f"{path} can't be decoded: decord crashed (status {done.returncode}).")
    with np.load(io.BytesIO(done.stdout)) as arrays:
        return dict(arrays)


def _main(kind: str, path: str, count: str = "0") -> None:
    """Decode and write the result to standard output as an .npz file."""
    arrays: dict[str, Any]
    try:
        if kind == "video":
            video = video_here(Path(path), Evenly(int(count)))
            arrays = {"frames": video.frames, "total": video.total, "fps": video.fps, "duration_s": video.duration_s}
        else:
            sound = sound_here(Path(path))
            arrays = {"samples": sound.samples, "duration_s": sound.duration_s, "silent": sound.silent}
    except (MediaError, SettingError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    _main(*sys.argv[1:])
