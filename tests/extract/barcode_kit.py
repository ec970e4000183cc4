"""Clips whose frames carry their own number as a bar code, and what ffmpeg makes of a file."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

BITS = 10
WIDTH, HEIGHT = 160, 96
"""Sixteen pixels a bar: a macroblock of every codec here, so that no codec blurs one bar into the next."""

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg to compare with")


def draw(number: int) -> npt.NDArray[np.uint8]:
    """A frame, uint8 [H, W, 3]: bars for the bits of its number, least first, over a background that moves."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    pixels[::8, number % 32 :: 32] = 200
    for bit in range(BITS):
        pixels[32:64, 16 * bit : 16 * bit + 16] = 235 if number >> bit & 1 else 16
    return pixels


def read_code(frame: npt.NDArray[np.uint8]) -> int:
    """The number in a frame."""
    bars = [frame[40:56, 16 * bit + 5 : 16 * bit + 11].mean() > 125 for bit in range(BITS)]
    return sum(1 << bit for bit, lit in enumerate(bars) if lit)


def codes(frames: npt.NDArray[np.uint8]) -> list[int]:
    """The numbers in some frames, uint8 [T, H, W, 3]."""
    return [read_code(frame) for frame in frames]


def spread(numbers: list[int], count: int = 8) -> list[int]:
    """Which of the frames are the right ones."""
    return [numbers[index] for index in np.linspace(0, len(numbers) - 1, count).astype(int)]


def write_barcodes(
    path: Path,
    *,
    frames: int = 60,
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 2,
    rate: int = 25,
    options: dict[str, str] | None = None,
    sound: str | None = None,
    sound_from_s: float = 0.0,
    container_options: dict[str, str] | None = None,
    cover: str = "",
) -> Path:
    """Write a clip of numbered frames; `sound` names a codec for a rising tone that starts at `sound_from_s`.

    `cover` puts a picture in a video stream of its own: `first` before the film's stream, `last` after it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        before = _picture(container) if cover == "first" else None
        defaults = {"preset": "ultrafast"} if codec in ("libx264", "libx265") else {}
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        video = container.add_stream(codec, rate=rate, options={**defaults, **quiet, **(options or {})})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.bit_rate, video.gop_size, video.codec_context.thread_count = 1_500_000, gop, 1
        video.max_b_frames = b_frames
        audio = container.add_stream(sound, rate=48000, layout="stereo") if sound else None
        after = _picture(container) if cover == "last" else None
        for stream in (before, after):
            if stream is not None:
                still = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
                container.mux(stream.encode(still.reformat(format="yuvj420p")))
                container.mux(stream.encode())
        for number in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24")))
        container.mux(video.encode())
        if audio is not None:
            _write_tone(container, audio, frames / rate - sound_from_s, sound_from_s)
    return path


def _picture(container: av.container.OutputContainer) -> av.VideoStream:
    stream = container.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
    return stream


def tone(seconds: float) -> npt.NDArray[np.float32]:
    """A rising tone, float32 [2, samples] at 48 kHz."""
    time = np.arange(int(seconds * 48000)) / 48000
    return np.stack([0.4 * np.sin(2 * np.pi * (200 + 100 * time) * time)] * 2).astype(np.float32)


def _write_tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float, from_s: float) -> None:
    samples = tone(seconds)
    for start in range(0, samples.shape[1], 1024):
        piece = np.ascontiguousarray(samples[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
        frame.pts = start + round(from_s * 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg and return its standard output."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def ffmpeg_codes(path: Path) -> list[int]:
    """Numbers of all frames that ffmpeg decodes, in order."""
    raw = ffmpeg("-i", path, "-map", "0:v:0", "-vsync", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    return codes(np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3))


def ffmpeg_sound(path: Path) -> npt.NDArray[np.float32]:
    """What `ffmpeg -ar 16000 -ac 1` makes of a file's sound, float32 [samples]."""
    return np.frombuffer(ffmpeg("-i", path, "-vn", "-ar", "16000", "-ac", "1", "-f", "f32le", "-"), np.float32)
