"""Small media files with known content, and small encoders."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avem.extract import ExtractOptions
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper

MakeClip = Callable[..., Path]


def write_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    fps: int = 8,
    sound: float | None = 0.3,
    sound_s: float | None = None,
    pix_fmt: str = "yuv420p",
    pts: list[int] | None = None,
    seed: int = 0,
    faststart: bool = False,
    codec: str = "aac",
) -> Path:
    """Write an mp4: frame i is grey of level 20 + 8 i with a noisy corner; the sound is a tone of amplitude `sound`.

    `sound` None means no audio stream and 0 a silent one; `pts` gives presentation times in units of 1/1000 s.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", format="mp4" if codec == "aac" else "mov", options=options) as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "ultrafast", "threads": "1"})
        video.width, video.height = size
        video.pix_fmt = pix_fmt
        if pts is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        audio = None if sound is None else container.add_stream(codec, rate=16000, layout="mono")
        rng = np.random.default_rng(seed)
        for index in range(frames):
            pixels = np.full((size[1], size[0], 3), min(20 + 8 * index, 250), np.uint8)
            pixels[:8, :8] = rng.integers(0, 256, (8, 8, 3))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            seconds = sound_s if sound_s is not None else frames / fps
            tone = sound * np.sin(2 * np.pi * (220 + 40 * seed) * np.arange(int(seconds * 16000)) / 16000)
            step = 1024 if codec == "aac" else 16000
            for start in range(0, len(tone), step):
                piece = tone[None, start : start + step].astype(np.float32)
                samples = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 16000, start, Fraction(1, 16000)
                container.mux(audio.encode(samples))
            container.mux(audio.encode())
    return path


def rotate(path: Path, degrees: int) -> Path:
    """Set the display matrix in an mp4's track header, as telephones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 4 + 4 + 4 + 4 + 4 + 8 + 8
    one = 1 << 16
    cells = {90: (0, one, 0, -one, 0), 180: (-one, 0, 0, 0, -one), 270: (0, -one, 0, one, 0)}[degrees]
    data[matrix : matrix + 36] = struct.pack(">9i", *cells, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    return write_clip


@pytest.fixture(scope="session")
def make_rotated() -> Callable[[Path, int], Path]:
    return rotate


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory) -> Path:
    """A clip of ten minutes with a frame every thirty seconds."""
    path = tmp_path_factory.mktemp("long") / "ten minutes.mp4"
    return write_clip(path, frames=21, pts=list(range(0, 600_001, 30_000)), sound_s=600, codec="pcm_s16le")


@pytest.fixture(scope="session")
def encoders(tmp_path_factory) -> dict[str, Path]:
    """Checkpoint folders of a video and an audio encoder that take a millisecond a clip."""
    root = tmp_path_factory.mktemp("encoders")
    return {
        "video_encoder": make_random_languagebind(
            root / "video", image_size=32, patch_size=16, hidden=32, layers=2, heads=2, frames=4, projection_dim=16
        ),
        "audio_encoder": make_random_whisper(root / "audio", width=32, layers=1, heads=2, positions=50),
    }


@pytest.fixture
def locked(monkeypatch):
    """A context in which nobody may list a folder or look into it: as the system does it to all but root."""

    @contextmanager
    def locking(folder: Path) -> Iterator[None]:
        def guarded(name: str, *, itself: bool) -> Callable[..., object]:
            allowed = getattr(os, name)

            def call(path=".", *arguments, **named):
                asked = Path(path) if isinstance(path, str | os.PathLike) else Path()
                if folder in asked.parents or (itself and asked == folder):
                    raise PermissionError(errno.EACCES, "Permission denied", str(path))
                return allowed(path, *arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for name in ("scandir", "listdir"):
                patch.setattr(os, name, guarded(name, itself=True))
            patch.setattr(os, "stat", guarded("stat", itself=False))
            yield

    return locking


@pytest.fixture
def extract_and_die(monkeypatch, tmp_path):
    """Runs `dying_run.run` in a fresh process, forked from a server that has everything imported and nothing used."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import dying_run

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avem.extract.pipeline", "avem.extract.decode.worker", "pandas"])

    def start(corpus: Path, store: Path, options: ExtractOptions, after: int) -> tuple[bool, int]:
        process = context.Process(target=dying_run.run, args=(corpus, store, options, after, tmp_path / "tally"))
        process.start()
        process.join()
        return process.exitcode == -signal.SIGKILL, (tmp_path / "tally").stat().st_size

    return start
