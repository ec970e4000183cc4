"""Writes a scene as an mp4 file: H.264 video and AAC sound, through PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avem.records import RATE_HZ
from avem.tools.corpus.drawing import SIZE, draw_frames
from avem.tools.corpus.scene import Scene
from avem.tools.corpus.voice import synthesise

FPS = 8
DURATION_S = 2.5
ENCODING = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "rc-lookahead=0:mbtree=0"}
"""x264's lookahead now and then decides otherwise about the same frames, and so do threads: both are off."""


def write_clip(scene: Scene, path: Path) -> None:
    """Draw and synthesise a scene and write it as mp4.

    The same scene gives the same bytes of decoded frames (see `ENCODING`).

    Args:
        scene: What is in the clip.
        path: Where to write; the folder exists. The file appears whole or not at all.
    """
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options=ENCODING)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for pixels in draw_frames(scene, round(FPS * DURATION_S)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        for frame in _audio_frames(synthesise(scene, DURATION_S)):
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    temporary.replace(path)


def _audio_frames(samples: np.ndarray, length: int = 1024) -> list[av.AudioFrame]:
    frames = []
    for start in range(0, len(samples), length):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + length], format="fltp", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = start
        frame.time_base = Fraction(1, RATE_HZ)
        frames.append(frame)
    return frames
