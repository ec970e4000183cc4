"""A long clip whose frames carry their number and whose sound carries its time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FPS = 4
SIZE = 32
"""Side of a frame in pixels: what the tests' video encoder sees, so that nothing is scaled or cropped."""
RATE_HZ = 16000


def draw(number: int) -> np.ndarray:
    """A frame that says its number: 3 x 3 bright or dark fields, the lowest bit first."""
    bits = np.array([number >> bit & 1 for bit in range(9)]).reshape(3, 3)
    fields = np.kron(bits, np.ones((10, 10), dtype=int))
    frame = np.full((SIZE, SIZE, 3), 128, np.uint8)
    frame[1:31, 1:31] = (fields * 200 + 28)[..., None]
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number that a frame says."""
    centres = frame[6:31:10, 6:31:10].mean(axis=2)
    return int(sum(1 << bit for bit, level in enumerate(centres.ravel()) if level > 128))


def level(second: int) -> float:
    """What every sample of a second of sound is."""
    return (second + 1) / 200


def write_long(
    path: Path, seconds: float, *, sound_s: float | None = None, silent: bool = False, gop: int = 20
) -> Path:
    """Write a clip of `seconds` with B-frames and exact sound; `sound_s` 0 leaves the sound out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound_s = seconds if sound_s is None else sound_s
    with av.open(str(path), "w") as container:
        options = {"crf": "12", "preset": "veryfast", "threads": "1", "bf": "2", "g": str(gop)}
        video = container.add_stream("libx264", rate=FPS, options=options)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv444p"
        audio = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono") if sound_s else None
        for number in range(round(seconds * FPS)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24")))
        container.mux(video.encode())
        for second in range(int(np.ceil(sound_s))):
            length = round(min(sound_s - second, 1) * RATE_HZ)
            values = np.full((1, length), 0 if silent else round(level(second) * 32768), np.int16)
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, second * RATE_HZ
            container.mux(audio.encode(frame))
        if audio is not None:
            container.mux(audio.encode())
    return path


def all_frames(path: Path) -> np.ndarray:
    """Every frame of a file, decoded plainly, uint8 [frames, SIZE, SIZE, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
