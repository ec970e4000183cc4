"""The store against a memory map, other formats, and plain file access; each table's sides take turns in one run.

python -m avem.tools.project.benchmarks.store rows         # random rows, warm and cold, and int8
python -m avem.tools.project.benchmarks.store ragged       # random rows of any length, warm
python -m avem.tools.project.benchmarks.store whole        # writing and verifying
python -m avem.tools.project.benchmarks.store opening      # a store of a million clips
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
import typer
import zarr

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cache.disk.arrays import shard_path
from avem.tools.project.benchmarks.measure import alternate, show

app = typer.Typer(no_args_is_help=True, help=__doc__)

ROW_SHAPE = (8, 257, 1024)
"""LanguageBind-Video: 4.2 MB in float16."""
RAGGED_WIDTH = 3584
"""Qwen2.5-Omni-7B: 7.2 kB a token in float16."""
ROWS_PER_SHARD = 64
BATCH = 8

Folder = Annotated[Path | None, typer.Option(help="Folder on the disk to measure; a temporary one by default.")]
Rows = Annotated[int, typer.Option(help="Rows of 4.2 MB.")]


@contextmanager
def _scratch_folder(folder: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def spec_of(dtype: str = "float16") -> StreamSpec:
    """A video stream of rows of 4.2 MB in float16."""
    return StreamSpec("video", "benchmark", {"benchmark": 1}, ROW_SHAPE, 16, dtype, ROWS_PER_SHARD)


def records(count: int) -> list[ClipRecord]:
    """Clips that differ in what real ones differ in."""
    return [
        ClipRecord(f"d/{i:07d}", "d", f"clips/{i:07d}.mp4", sha256(str(i).encode()).hexdigest(), emotion="anger")
        for i in range(count)
    ]


def fill(path: Path, features: torch.Tensor, dtype: str) -> None:
    """Write features [n, *ROW_SHAPE] to a new store."""
    writer = StoreWriter.open(path)
    writer.add_clips(records(len(features)), path)
    stream = writer.stream(spec_of(dtype))
    pooled = torch.ones((ROWS_PER_SHARD, 16))
    for shard in stream.pending():
        part = features[shard.rows[0] : shard.rows[-1] + 1]
        stream.write(shard, part, pooled[: len(part)], [RowDetails()] * len(part))
    writer.finish()


def drop_from_memory(path: Path) -> None:
    """Have the system forget a file's or a folder's content, so that the next read goes to the disk."""
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


@app.command()
def rows(count: Rows = 128, repeats: Annotated[int, typer.Option()] = 5, folder: Folder = None) -> None:
    """Random rows, read in batches of 8 into one buffer."""
    with _scratch_folder(folder) as scratch:
        features = torch.randn((count, *ROW_SHAPE), generator=torch.Generator().manual_seed(0)).half()
        values = features.numpy()
        for dtype in ("float16", "int8"):
            fill(scratch / dtype, features, dtype)
        values.tofile(scratch / "plain")
        with h5py.File(scratch / "rows.h5", "w") as file:
            file.create_dataset("features", data=values, chunks=(1, *ROW_SHAPE))
        plain = np.memmap(scratch / "plain", np.float16, "r", shape=values.shape)
        del features, values
        order = np.random.default_rng(0).permutation(count)
        batches = [order[start : start + BATCH] for start in range(0, count, BATCH)]
        _read_warm(scratch, plain, batches, repeats)
        del plain
        _read_cold(scratch, batches)


def _read_warm(scratch: Path, plain: npt.NDArray[np.float16], batches: list[Any], repeats: int) -> None:
    buffer = torch.empty((BATCH, *ROW_SHAPE), dtype=torch.float16)
    target = buffer.numpy()

    def row_by_row(source: Any) -> Callable[[], None]:
        def read() -> None:
            for batch in batches:
                for slot, row in enumerate(batch):
                    target[slot] = source[row]

        return read

    def store_side(dtype: str, *, check: bool = True) -> Callable[[], None]:
        store = FeatureStore.open(scratch / dtype, check=check)

        def read() -> None:
            for batch in batches:
                store.video(batch, buffer)

        return read

    array = zarr.open_group(scratch / "float16", mode="r")["video/benchmark/features"]
    sides = {
        "np.memmap": row_by_row(plain),
        "avem": store_side("float16"),
        "avem, unchecked": store_side("float16", check=False),
        "avem, int8 rows": store_side("int8"),
        "avem, int8 rows, unchecked": store_side("int8", check=False),
        "h5py": row_by_row(h5py.File(scratch / "rows.h5")["features"]),
        "zarr-python": row_by_row(array),
    }
    seconds = alternate(sides, repeats)
    try:
        import zarrs  # noqa: F401  registers its codec pipeline's name
    except ImportError:
        pass
    else:
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            again = zarr.open_group(scratch / "float16", mode="r")["video/benchmark/features"]
            seconds |= alternate({"zarr-python with zarrs": row_by_row(again)}, repeats)
    count = sum(map(len, batches))
    size = count * int(np.prod(ROW_SHAPE)) * 2 / 1e9
    show(
        f"Random rows of {size / count * 1e3:.1f} MB ({count} rows), warm",
        ("reader", "rows/s", "GB/s as float16", "of np.memmap"),
        [
            (name, f"{count / taken:.0f}", f"{size / taken:.2f}", f"{seconds['np.memmap'] / taken:.2f}")
            for name, taken in seconds.items()
        ],
    )


@app.command()
def ragged(count: Rows = 96, repeats: Annotated[int, typer.Option()] = 5, folder: Folder = None) -> None:
    """Random rows of 1 to 8 MB whose length differs by clip, each into memory of its own."""
    with _scratch_folder(folder) as scratch:
        generator = np.random.default_rng(0)
        lengths = generator.integers(140, 1120, size=count)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        values = torch.randn((int(ends[-1]), RAGGED_WIDTH), generator=torch.Generator().manual_seed(0)).half()
        spec = StreamSpec("video", "ragged", {"benchmark": 1}, (None, RAGGED_WIDTH), 16, rows_per_shard=16)
        writer = StoreWriter.open(scratch / "store")
        writer.add_clips(records(count), scratch)
        stream = writer.stream(spec)
        for shard in stream.pending():
            part = [values[ends[row] : ends[row + 1]] for row in shard.rows]
            stream.write(shard, part, torch.ones(len(part), 16), [RowDetails()] * len(part))
        writer.finish()
        values.numpy().tofile(scratch / "plain")
        plain = np.memmap(scratch / "plain", np.float16, "r", shape=tuple(values.shape))
        size = values.nbytes / 1e9
        del values
        order = generator.permutation(count)
        batches = [order[start : start + BATCH].tolist() for start in range(0, count, BATCH)]

        def from_map() -> None:
            for batch in batches:
                [np.array(plain[ends[row] : ends[row + 1]]) for row in batch]

        def store_side(*, check: bool) -> Callable[[], None]:
            opened = FeatureStore.open(scratch / "store", check=check).stream("video/ragged")

            def read() -> None:
                for batch in batches:
                    opened.rows(batch)

            return read

        sides = {
            "np.memmap": from_map,
            "avem": store_side(check=True),
            "avem, unchecked": store_side(check=False),
        }
        seconds = alternate(sides, repeats)
        show(
            f"Random ragged rows of {size / count * 1e3:.1f} MB on average ({count} rows), warm",
            ("reader", "rows/s", "GB/s", "of np.memmap"),
            [
                (name, f"{count / taken:.0f}", f"{size / taken:.2f}", f"{seconds['np.memmap'] / taken:.2f}")
                for name, taken in seconds.items()
            ],
        )


def _read_cold(scratch: Path, batches: list[Any]) -> None:
    buffer = torch.empty((BATCH, *ROW_SHAPE), dtype=torch.float16)
    size = buffer.nbytes // BATCH
    handle = os.open(scratch / "plain", os.O_RDONLY)
    block = memoryview(bytearray(2**23))

    def sequential() -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        while os.readv(handle, [block]):
            pass

    def positioned() -> None:
        for batch in batches:
            for row in batch:
                os.preadv(handle, [block[:size]], int(row) * size)

    def store_side() -> None:
        store = FeatureStore.open(scratch / "float16")
        for batch in batches:
            store.video(batch, buffer)

    sides = {
        "the disk, read in order": sequential,
        "the disk, random rows": positioned,
        "avem, random rows": store_side,
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3):
        for name, run in sides.items():
            drop_from_memory(scratch)
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    total = sum(map(len, batches)) * size / 1e9
    best = {name: sorted(taken)[1] for name, taken in seconds.items()}
    in_order = best["the disk, read in order"]
    show(
        "The same rows, cold",
        ("reader", "GB/s", "of the disk in order"),
        [(name, f"{total / taken:.2f}", f"{in_order / taken:.2f}") for name, taken in best.items()],
    )
    os.close(handle)


@app.command()
def whole(count: Rows = 128, repeats: Annotated[int, typer.Option()] = 3, folder: Folder = None) -> None:
    """Writing with fsync, and verifying, against plain files of the same bytes."""
    with _scratch_folder(folder) as scratch:
        features = torch.randn((count, *ROW_SHAPE), generator=torch.Generator().manual_seed(0)).half()

        def plain() -> None:
            with (scratch / "plain").open("wb") as file:
                for start in range(0, count, ROWS_PER_SHARD):
                    file.write(features[start : start + ROWS_PER_SHARD].numpy().data)
                    file.flush()
                    os.fsync(file.fileno())

        written = _alternate_writing(
            {"plain file": plain, "avem": lambda: fill(scratch / "store", features, "float16")}, scratch, repeats
        )
        block = memoryview(bytearray(2**22))
        shards = [
            shard_path(scratch / "store/video/benchmark/features", index, 4)
            for index in range(-(-count // ROWS_PER_SHARD))
        ]

        def read() -> None:
            for path in shards:
                with path.open("rb", buffering=0) as file:
                    while file.readinto(block):
                        pass

        store = FeatureStore.open(scratch / "store")
        checked = alternate({"reading the files": read, "verify": lambda: store.verify()}, repeats)
        size = features.nbytes / 1e9
        show(
            f"Writing {size:.2f} GB in shards of {ROWS_PER_SHARD} rows, fsync after each",
            ("writer", "GB/s", "of the plain file"),
            [(name, f"{size / taken:.2f}", f"{written['plain file'] / taken:.2f}") for name, taken in written.items()],
        )
        show(
            f"Verifying {size:.2f} GB, warm",
            ("", "GB/s", "of reading"),
            [
                (name, f"{size / taken:.2f}", f"{checked['reading the files'] / taken:.2f}")
                for name, taken in checked.items()
            ],
        )


def _alternate_writing(sides: dict[str, Callable[[], None]], scratch: Path, repeats: int) -> dict[str, float]:
    """Median seconds of each side, each on a clean folder and a disk that has nothing else left to write."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, write in sides.items():
            for old in scratch.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            os.sync()
            begin = time.perf_counter()
            write()
            seconds[name].append(time.perf_counter() - begin)
    return {name: sorted(taken)[len(taken) // 2] for name, taken in seconds.items()}


OPEN_ONCE = """
import re, sys, time
from avem.cache import FeatureStore
# not resource.getrusage, which begins with what the parent process had
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, begin = peak(), time.perf_counter()
store = FeatureStore.open(sys.argv[1])
opened = time.perf_counter()
after = peak()
store.video(store.rows(["d/0000007"]))
print(f"{opened - begin:.2f} {time.perf_counter() - opened:.2f} {before:.0f} {after:.0f} {peak():.0f}")
"""


@app.command()
def opening(
    clips: Annotated[int, typer.Option()] = 1_000_000,
    store: Annotated[Path | None, typer.Option(help="Where the store is, or is made and kept.")] = None,
) -> None:
    """Open a store of many clips with tiny rows, in a process of its own."""
    with _scratch_folder(None) as scratch:
        path = store or scratch / "store"
        if not path.exists():
            _make_large(path, clips)
        command = [sys.executable, "-c", OPEN_ONCE, str(path)]
        lines = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
        median = sorted(lines, key=lambda line: float(line[0]))[1]
    show(
        f"Opening a store of {clips:,} clips, the process's memory in MB",
        ("open, s", "first row by id, s", "memory after imports", "after opening", "after a row by id"),
        [median],
    )


def _make_large(path: Path, clips: int) -> None:
    """A store of many clips with two numbers each."""
    writer = StoreWriter.open(path)
    writer.add_clips(records(clips), path)
    stream = writer.stream(StreamSpec("video", "tiny", {"benchmark": 1}, (1, 1, 2), 2, rows_per_shard=65_536))
    for shard in stream.pending():
        size = len(shard.rows)
        stream.write(shard, np.ones((size, 1, 1, 2), np.float32), np.ones((size, 2)), [RowDetails()] * size)
    writer.finish()


if __name__ == "__main__":
    app()
