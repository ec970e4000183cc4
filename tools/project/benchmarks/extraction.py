"""Measures extraction: what it costs beyond decoding and encoding, a rerun, memory, seeking, and where the time goes.

python -m avem.tools.project.benchmarks.extraction (overhead | memory | seeking | account)

Encoders have random weights: their values decide nothing about time. `overhead` and `memory` draw a demo corpus into
`--work` first, and keep it there for the next time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import torch
import typer

from avem.extract import ExtractOptions, extract, read_dataset, read_waveform
from avem.extract.decode.media import frame_ids
from avem.extract.decode.pool import DecodePool
from avem.extract.decode.task import DecodeTask
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.extract.engine.device import BATCH_ON_CPU, BATCH_ON_GPU
from avem.extract.engine.encoders import Encoders, device_list, load_encoders
from avem.guards.output_kinds import STORE, kind_of
from avem.tools.corpus.build import build_corpus
from avem.tools.demo.models import make_encoders
from avem.tools.project.benchmarks.measure import alternate, show

app = typer.Typer(no_args_is_help=True, add_completion=False)

Work = Annotated[Path, typer.Option(help="Folder for corpus, encoders and stores.")]
WORK = Path(tempfile.gettempdir()) / "avem-extraction"
FRAMES = 8

SHAPES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "base": (
        {"image_size": 224, "patch_size": 32, "hidden": 768, "layers": 12, "heads": 12, "projection_dim": 512},
        {"width": 384, "layers": 4, "heads": 6},
    ),
    "released": (
        {"image_size": 224, "patch_size": 14, "hidden": 1024, "layers": 24, "heads": 16, "projection_dim": 768},
        {"n_mels": 128, "width": 1280, "layers": 32, "heads": 20},
    ),
}
"""LanguageBind-Video's and Whisper's: ViT-B/32 with tiny, and ViT-L/14 with large-v3, which are the released ones."""


def remove_store(path: Path) -> None:
    """Remove what an earlier run left; anything but a feature store stays, and `extract` then refuses it."""
    if path.is_dir() and kind_of(path, STORE) is STORE:
        shutil.rmtree(path)


def options_of(work: Path, shapes: str, limit: int | None = None, device: str = "auto") -> ExtractOptions:
    """How to extract with encoders of these shapes, which are made if they are not there."""
    if shapes == "demo":
        video, audio = make_encoders(work / "demo")
    else:
        video, audio = work / shapes / "video", work / shapes / "audio"
        if not video.is_dir():
            make_random_languagebind(video, frames=FRAMES, **SHAPES[shapes][0])
        if not audio.is_dir():
            make_random_whisper(audio, **SHAPES[shapes][1])
    return ExtractOptions(video_encoder=video, audio_encoder=audio, limit=limit, device=device)


def decode_and_encode(root: Path, options: ExtractOptions, encoders: Encoders) -> None:
    """Decode every clip in the worker processes and encode it in batches, and keep nothing."""
    batch_size = options.batch_size or (BATCH_ON_GPU if encoders.on_gpu else BATCH_ON_CPU)
    tasks = [
        DecodeTask(
            row,
            str(root / clip.path),
            str(root / (clip.audio_path or clip.path)),
            options.streams,
            encoders.pictures,
            encoders.samples,
        )
        for row, clip in enumerate(read_dataset(root)[: options.limit])
    ]
    with DecodePool(options.worker_count) as pool:
        waiting = []
        for _, clip in pool.map(tasks, window=2 * batch_size + 2 * options.worker_count):
            waiting.append([encoders.inputs(kind, clip) for kind in options.streams])
            if len(waiting) == batch_size:
                encode(encoders, options, waiting)
                waiting = []
        if waiting:
            encode(encoders, options, waiting)


def encode(encoders: Encoders, options: ExtractOptions, batch: list[list[torch.Tensor]]) -> None:
    """Encode a batch, to the processor's memory, as the pipeline does."""
    for kind, inputs in zip(options.streams, zip(*batch, strict=True), strict=True):
        torch.as_tensor(encoders.get(kind).encode_clips(inputs).features).to(torch.float16).cpu()


@app.command()
def overhead(
    work: Work = WORK,
    clips: Annotated[int, typer.Option(help="Demo clips, 200 at most.")] = 200,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 3,
    shapes: Annotated[str, typer.Option(help="Encoders: demo, base or released.")] = "demo",
) -> None:
    """Extraction against decoding and encoding alone, and a rerun against both."""
    root = build_corpus(work / "corpus-200", 200, seed=0).root
    options = options_of(work, shapes, clips)
    (encoders,) = load_encoders(options, device_list(options)[:1])
    number = count()

    def fresh() -> None:
        extract(root, work / f"store-{next(number)}", options)

    def again() -> None:
        extract(root, work / "store-0", options)

    sides: dict[str, Callable[[], object]] = {
        "decode and encode alone": partial(decode_and_encode, root, options, encoders),
        "extract": fresh,
        "extract again": again,
    }
    for store in work.glob("store-*"):
        remove_store(store)
    seconds = alternate(sides, repeats)
    alone, whole = seconds["decode and encode alone"], seconds["extract"]
    show(
        f"{clips} demo clips, {shapes} encoders, {options.worker_count} decoding processes",
        ("side", "seconds", "against"),
        [
            ("decode and encode alone", f"{alone:.2f}", ""),
            ("`avem extract` into a new store", f"{whole:.2f}", f"{100 * (whole / alone - 1):+.1f} %"),
            (
                "the same command again",
                f"{seconds['extract again']:.3f}",
                f"{100 * seconds['extract again'] / whole:.1f} % of the first",
            ),
        ],
    )


@app.command()
def memory(
    work: Work = WORK, clips: Annotated[int, typer.Option(help="Clips; links to a few demo clips.")] = 2000
) -> None:
    """Resident memory of the parent and of its decoding processes during a long run."""
    corpus = build_corpus(work / "corpus-8", 8, seed=0).root
    root, sources = work / f"links-{clips}", sorted(corpus.rglob("*.mp4"))
    if not root.is_dir():
        (root / "anger").mkdir(parents=True)
        for index in range(clips):
            os.link(sources[index % len(sources)], root / "anger" / f"{index:05}.mp4")
    remove_store(work / "store-memory")
    options = options_of(work, "demo")
    with sampled_memory() as samples:
        report = extract(root, work / "store-memory", options)
    shares = (0.1, 0.25, 0.5, 0.75, 1.0)
    rows = []
    for share in shares:
        own, others = samples[max(int(share * len(samples)) - 1, 0)]
        rows.append((f"{100 * share:.0f} %", f"{own / 2**20:.0f}", f"{others / 2**20:.0f}"))
    show(
        f"Resident memory, {clips} clips, {report.clips_per_s:.0f} a second, {options.worker_count} decoding processes",
        ("of the time", "parent, MiB", "decoding processes, MiB"),
        rows,
    )


@contextmanager
def sampled_memory(every_s: float = 0.1) -> Iterator[list[tuple[int, int]]]:
    """Resident bytes of this process and of its children, sampled while the block runs."""
    samples: list[tuple[int, int]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every_s):
            children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
            samples.append((resident("self"), sum(map(resident, children))))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def resident(pid: str) -> int:
    """A process's resident bytes; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def by_seeking(path: Path) -> None:
    """Decord's own method for a list of frames: it seeks where a key frame is nearer than the frames before."""
    import decord  # it has no wheels for arm64 and macOS

    reader = decord.VideoReader(str(path), num_threads=1)
    reader.get_batch(np.unique(frame_ids(len(reader), FRAMES))).asnumpy()


def in_sequence(path: Path) -> None:
    """Decord decodes every frame in turn; only the wanted ones are copied out."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    wanted = set(frame_ids(len(reader), FRAMES).tolist())
    for index in range(len(reader)):
        frame = reader.next()
        if index in wanted:
            frame.asnumpy()


def in_sequence_by_pyav(path: Path) -> None:
    """PyAV decodes every frame in turn; only the wanted ones are turned into RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        wanted = set(frame_ids(stream.frames, FRAMES).tolist())
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                frame.to_ndarray(format="rgb24")


METHODS: dict[str, Callable[[Path], object]] = {
    "seeking": by_seeking,
    "every frame": in_sequence,
    "every frame, PyAV": in_sequence_by_pyav,
    "sound": read_waveform,
}


@app.command()
def seeking(
    folders: Annotated[list[Path], typer.Argument(help="Folders of clips.")],
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 5,
) -> None:
    """Eight frames of a clip by seeking, and by decoding every frame; sound for comparison."""
    rows = []
    for folder in folders:
        paths = sorted(folder.rglob("*.mp4"))
        sides: dict[str, Callable[[], object]] = {
            name: partial(_each, method, paths) for name, method in METHODS.items()
        }
        seconds = alternate(sides, repeats)
        rows.append((folder.name, len(paths), *(f"{1000 * seconds[name] / len(paths):.1f} ms" for name in METHODS)))
    show(f"{FRAMES} frames of a clip, a clip at a time", ("clips", "", *METHODS), rows)


def _each(method: Callable[[Path], object], paths: list[Path]) -> None:
    for path in paths:
        method(path)


@app.command()
def account(
    folders: Annotated[list[Path], typer.Argument(help="Root folders of datasets.")],
    work: Work = WORK,
    shapes: Annotated[str, typer.Option(help="Encoders: demo, base or released.")] = "base",
    device: Annotated[str, typer.Option(help="As of `avem extract`.")] = "auto",
    limit: Annotated[int | None, typer.Option(help="Clips of each.")] = None,
) -> None:
    """The time account of extracting real clips; with `--shapes released --device cuda`, what share the GPU works."""
    rows = []
    remove_store(work / "store-account")
    for folder in folders:
        options = options_of(work, shapes, limit, device)
        start = time.perf_counter()
        report = extract(folder, work / "store-account", options)
        seconds = time.perf_counter() - start
        t = report.timings
        parts = (t.plan, t.load, t.decode, t.encode, t.write, t.wait)
        rows.append(
            (
                folder.name,
                report.clips,
                len(report.failures),
                f"{seconds:.1f}",
                *(f"{part:.2f}" for part in parts),
                report.limiting_stage,
                f"{100 * t.encode / max(seconds - t.load, 1e-9):.0f} %",
            )
        )
    show(
        f"Seconds by stage, {shapes} shapes with random weights; decoding is the sum over {report.workers} processes",
        (
            "clips",
            "",
            "failed",
            "total",
            "plan",
            "load",
            "decode",
            "encode",
            "write",
            "waiting for clips",
            "limit",
            "share of the time without loading that the encoders work",
        ),
        rows,
    )


if __name__ == "__main__":
    app()
