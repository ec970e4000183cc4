"""A store of millions of clips with tiny rows: opening it, finding a clip, adding clips, folding, info and a sample.

python -m avem.tools.project.benchmarks.many_clips make STORE --clips 10000000
python -m avem.tools.project.benchmarks.many_clips opening STORE
python -m avem.tools.project.benchmarks.many_clips commands STORE
python -m avem.tools.project.benchmarks.many_clips adding --clips 1000000 --batch 50000
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from avem.cache import ClipRecord, RowDetails, Shard, StoreWriter, StreamSpec, StreamWriter
from avem.cache.disk import folding
from avem.cache.manifest.columns import new_rows
from avem.cache.manifest.edit import ManifestEditor
from avem.tools.project.benchmarks.measure import show

app = typer.Typer(no_args_is_help=True, help=__doc__)

ROWS_PER_SHARD = 4096
LOOSE_ROWS = 64
"""Rows of a loose shard: what shards of real clips have."""

Store = Annotated[Path, typer.Argument(help="The store.")]
Clips = Annotated[int, typer.Option(help="Clips.")]

OPEN_ONCE = """
import re, sys, time
from avem.cache import FeatureStore
# not resource.getrusage, which begins with what the parent process had
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, begin, worked = peak(), time.perf_counter(), time.process_time()
store = FeatureStore.open(sys.argv[1])
opened, busy = time.perf_counter(), time.process_time() - worked
count = len(store)
good = int(store.available("video").sum())
counted, memory = time.perf_counter(), peak()
worked = time.process_time()
store.video(store.rows([sys.argv[2]]))
found = time.process_time() - worked
print(f"{opened - begin:.2f} {busy:.2f} {counted - begin:.2f} {time.perf_counter() - counted:.2f} {found:.2f} "
      f"{memory - before:.0f} {peak() - before:.0f} {count} {good}")
"""


def records(first: int, count: int) -> list[ClipRecord]:
    """Clips that differ in what real ones differ in."""
    emotions = ("anger", "happiness", "sadness", "fear")
    return [
        ClipRecord(
            f"d/{i:08d}",
            "d",
            f"clips/{i // 1000:05d}/{i:08d}.mp4",
            sha256(str(i).encode()).hexdigest(),
            split="train",
            emotion=emotions[i % 4],
            source=f"speaker-{i % 50_000}",
        )
        for i in range(first, first + count)
    ]


def spec(rows_per_shard: int) -> StreamSpec:
    """A video stream of two numbers a clip."""
    return StreamSpec("video", "tiny", {"benchmark": 1}, (1, 1, 2), 2, rows_per_shard=rows_per_shard)


def _batches(clips: int, batch: int) -> Iterator[list[ClipRecord]]:
    for first in range(0, clips, batch):
        yield records(first, min(batch, clips - first))


@app.command()
def make(
    store: Store, clips: Clips = 10_000_000, loose: Annotated[int, typer.Option(help="Records not folded.")] = 256
) -> None:
    """Make a store of which `loose` shards have 64 rows that are in the ledger and not in the manifest yet.

    The manifest is made in Arrow and equal shards are copied, because a million clips' Python objects take a minute.
    """
    writer = StoreWriter.open(store)
    begin = time.perf_counter()
    for first in range(0, clips, 1_000_000):
        editor = ManifestEditor(store)
        editor.append(_entries(first, min(1_000_000, clips - first), loose))
        editor.write()
        typer.echo(f"{len(editor):,} clips after {time.perf_counter() - begin:.0f} s")
    stream = writer.stream(spec(ROWS_PER_SHARD))
    rows = range(ROWS_PER_SHARD)
    _write_shard(stream, Shard(0, rows), [RowDetails(duration_s=2.5)] * len(rows))  # its rows are in the manifest too
    for array in ("features", "pooled"):
        folder = store / "video/tiny" / array
        (whole,) = folder.glob("c.0.*")
        for number in range(1, -(-clips // ROWS_PER_SHARD)):
            shutil.copyfile(whole, folder / whole.name.replace("c.0.", f"c.{number}.", 1))
    writer.fold()
    for shard in itertools.islice(stream.pending(), loose):
        _write_shard(stream, shard, [RowDetails(duration_s=2.5, fps=25.0, frames=62)] * len(shard.rows))
    typer.echo(f"complete after {time.perf_counter() - begin:.0f} s")


def _entries(first: int, count: int, loose: int) -> pa.Table:
    """Rows of the manifest, all but the loose ones extracted."""
    numbers = np.arange(first, first + count)
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
    digests = np.random.default_rng(first).bytes(32 * count).hex()
    table = new_rows(records(0, 1)).take(pa.array(np.zeros(count, dtype=np.int64)))
    shards = numbers // ROWS_PER_SHARD
    status = np.where((shards > 0) & (shards <= loose) & (numbers % ROWS_PER_SHARD < LOOSE_ROWS), "pending", "ok")
    folders = pc.utf8_lpad(pa.array(numbers // 1000).cast(pa.string()), 5, "0")
    cells = {
        "clip_id": pc.binary_join_element_wise("d", digits, "/"),
        "path": pc.binary_join_element_wise("clips", folders, pc.binary_join_element_wise(digits, "mp4", "."), "/"),
        "sha256": pa.array([digests[64 * row : 64 * row + 64] for row in range(count)]),
        "emotion": pa.array(np.array(["anger", "happiness", "sadness", "fear"])[numbers % 4]),
        "source": pc.binary_join_element_wise("speaker", pa.array(numbers % 50_000).cast(pa.string()), "-"),
        "duration_s": pa.array(2.5 + numbers % 97 / 10),
        "video_status": pa.array(status),
    }
    for name, values in cells.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _write_shard(stream: StreamWriter, shard: Shard, details: list[RowDetails]) -> None:
    size = len(shard.rows)
    stream.write(shard, np.ones((size, 1, 1, 2), np.float32), np.ones((size, 2)), details)


@app.command()
def opening(store: Store, clip_id: Annotated[str, typer.Option(help="Clip to find.")] = "d/00000007") -> None:
    """Open a store in a process of its own, and read one clip by its id."""
    command = [sys.executable, "-c", OPEN_ONCE, str(store), clip_id]
    lines = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
    *times, clips, good = sorted(lines, key=lambda line: float(line[0]))[1]
    show(
        f"Opening a store of {int(clips):,} clips, {int(good):,} with features; memory above the imports in MB",
        (
            "open, s",
            "of the processor",
            "and statuses, s",
            "first row by id, s",
            "of the processor",
            "memory after opening",
            "after a row by id",
        ),
        [times],
    )


@app.command()
def commands(store: Store) -> None:
    """`avem cache info` and `avem cache verify --sample 1000`, start of Python included."""
    rows = []
    for words in (["info"], ["verify", "--sample", "1000"]):
        begin = time.perf_counter()
        code = "import re, sys; from avem.cli import app\ntry:\n app(sys.argv[1:])\nfinally:\n "
        code += "sys.stderr.write(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        done = subprocess.run(
            [sys.executable, "-c", code, "cache", *words, "--cache", str(store)],
            check=True,
            capture_output=True,
            text=True,
        )
        memory = int(re.findall(r"\d+", done.stderr)[-1]) / 1024
        rows.append((f"`avem cache {' '.join(words)}`", f"{time.perf_counter() - begin:.1f}", f"{memory:.0f}"))
    show("Commands on a large store", ("command", "s", "memory of the process, MB"), rows)


@app.command()
def adding(clips: Clips = 1_000_000, batch: Annotated[int, typer.Option(help="Clips a call.")] = 50_000) -> None:
    """Seconds that `add_clips` takes, early and late, and a fold of 256 shards of 64 rows."""
    with tempfile.TemporaryDirectory() as folder:
        writer, seconds = StoreWriter.open(Path(folder) / "store"), []
        for part in _batches(clips, batch):
            begin = time.perf_counter()
            writer.add_clips(part, folder)
            seconds.append(time.perf_counter() - begin)
        folding.MOST_RECORDS = folding.MOST_BYTES = 10**9
        stream = writer.stream(spec(LOOSE_ROWS))
        for shard in itertools.islice(stream.pending(), 256):
            _write_shard(stream, shard, [RowDetails(duration_s=2.5, fps=25.0, frames=62)] * len(shard.rows))
        begin = time.perf_counter()
        writer.fold()
        folded = time.perf_counter() - begin
    show(
        f"Adding {clips:,} clips, {batch:,} a call",
        ("first call, s", "last call, s", "all calls, s", "folding 16,384 rows, s"),
        [(f"{seconds[0]:.2f}", f"{seconds[-1]:.2f}", f"{sum(seconds):.1f}", f"{folded:.2f}")],
    )


if __name__ == "__main__":
    app()
