"""Measures decoding: eight frames and the sound of a clip, avem's decoder against decord.

python -m avem.tools.project.benchmarks.decoding [--gop 250] [--folders ...]

The clips are drawn into `--work` first and kept there: 224 pixels and 720p, 3 and 60 seconds, H.264 and AAC in MP4.
Times are of the processor, so that a busy machine matters less; the sides take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer

from avem.extract.decode.decord_reader import sound_here, video_here
from avem.extract.decode.media import read_sound, read_video
from avem.extract.decode.wants import Evenly
from avem.tools.project.benchmarks.measure import show

app = typer.Typer(add_completion=False)

FRAMES, RATE, SOUND_HZ = 8, 25, 48000
SIZES = {"224": (224, 224), "720p": (1280, 720)}
LENGTHS_S = (3, 60)
WORK = Path(tempfile.gettempdir()) / "avem-decoding"


def write_clip(path: Path, size: tuple[int, int], seconds: int, gop: int) -> Path:
    """Draw a clip of moving waves and grain with a tone, unless it is there already."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 6, (size[1], size[0], 3), dtype=np.uint8)
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt, video.gop_size = *size, "yuv420p", gop
        audio = container.add_stream("aac", rate=SOUND_HZ, layout="stereo")
        drawn = []
        for number in range(2 * RATE):
            wave = 110 + 90 * np.sin((across + 3 * number) / 23) * np.cos((down - 2 * number) / 31)
            pixels = wave.astype(np.uint8)[:, :, None] + np.roll(grain, number, axis=1)
            drawn.append(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p"))
        for number in range(seconds * RATE):
            drawn[number % len(drawn)].pts = number
            container.mux(video.encode(drawn[number % len(drawn)]))
        container.mux(video.encode())
        times = np.arange(seconds * SOUND_HZ) / SOUND_HZ
        tone = np.stack([0.3 * np.sin(2 * np.pi * 300 * times), 0.3 * np.sin(2 * np.pi * 500 * times)])
        for start in range(0, tone.shape[1], 1024):
            piece = np.ascontiguousarray(tone[:, start : start + 1024], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, start, Fraction(1, SOUND_HZ)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path


def processor_seconds(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor time of each side; the sides take turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            start = time.process_time()
            run()
            if turn:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def sound_as_before(path: Path) -> None:
    """Sound as avem decoded it by decord: its samples, and a look at the header for how long they should be."""
    sound_here(path)
    with av.open(str(path)) as container:
        _ = container.streams.audio[0].duration


def compare(paths: list[Path], repeats: int) -> tuple[str, ...]:
    """Milliseconds a clip of both sides, frames and sound, each with avem's share of decord's."""

    def each(read: Callable[[Path], object]) -> None:
        for path in paths:
            read(path)

    sides: dict[str, Callable[[], object]] = {
        "frames": partial(each, lambda path: read_video(path, FRAMES)),
        "decord's frames": partial(each, lambda path: video_here(path, Evenly(FRAMES))),
        "sound": partial(each, read_sound),
        "decord's sound": partial(each, sound_as_before),
    }
    found = {name: 1000 * value / len(paths) for name, value in processor_seconds(sides, repeats).items()}
    cells: list[str] = []
    for kind in ("frames", "sound"):
        ours, theirs = found[kind], found[f"decord's {kind}"]
        cells += [f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"]
    return tuple(cells)


@app.command()
def main(
    work: Annotated[Path, typer.Option(help="Folder for the clips.")] = WORK,
    gop: Annotated[list[int] | None, typer.Option(help="Frames from one key frame to the next.")] = None,
    folders: Annotated[list[Path] | None, typer.Option(help="Folders of more clips.")] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 3,
) -> None:
    """Eight frames and the sound of a clip, by avem and by decord."""
    rows: list[tuple[object, ...]] = []
    for every in gop or [250]:
        for name, size in SIZES.items():
            for seconds in LENGTHS_S:
                path = write_clip(work / f"{name}-{seconds}s-{every}.mp4", size, seconds, every)
                rows.append((f"{name}, {seconds} s, key frame every {every}", *compare([path], repeats)))
    for folder in folders or []:
        paths = sorted(folder.rglob("*.mp4"))
        rows.append((f"{len(paths)} of {folder.name}", *compare(paths, repeats)))
    header = ("clips", "frames, ms", "decord", "ratio", "sound, ms", "decord", "ratio")
    show(f"{FRAMES} frames and the sound of a clip, processor time", header, rows)


if __name__ == "__main__":
    app()
