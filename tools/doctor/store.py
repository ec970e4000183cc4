"""How fast a store is read here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.tools.doctor.findings import Finding, Verdict

ROWS, ROW_SHAPE = 16, (8, 257, 1024)
"""A temporary store: 16 clips of AVERE's video features, 4.2 MB each."""
NEW = ", new and so probably still in memory; --cache measures your own"
TEMPORARY = "video/doctor"
SLOW_GB_PER_S = 0.2
"""A 7B model on one GPU takes about this much; see `docs/performance.md`."""


def read_speed(path: Path | None) -> Iterator[Finding]:
    """Read rows in random order from a store, or from a temporary one.

    Raises:
        MissingFileError: There is no store at `path`.
        StoreError: A row is damaged.
    """
    if path is not None:
        store = FeatureStore.open(path)
        for name in store.streams:
            yield _measure(store, name, str(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield _measure(_temporary(Path(folder) / "store"), TEMPORARY, f"a store made for this check{NEW}")


def _measure(store: FeatureStore, name: str, where: str) -> Finding:
    stream = store.stream(name)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(stream.available))[: 4 * ROWS]
    if not len(rows):
        return Finding("store", name, f"{where} holds none of it for any video", Verdict.NOTE)
    size, start = 0, time.perf_counter()
    for row in rows.tolist():
        (features,) = stream.rows([row])
        size += features.numel() * features.element_size()
    speed = size / 1e9 / (time.perf_counter() - start)
    slow = speed < SLOW_GB_PER_S
    return Finding(
        "store",
        name,
        f"{1000 * speed:,.0f} MB a second, {'slow' if slow else 'fast enough'} ({len(rows)} videos of {where})",
        Verdict.NOTE if slow else Verdict.OK,
        "Training may have to wait for reading. Copy the store to a local disk, or give --read-cache a folder there."
        if slow
        else "",
        {"gb_per_s": speed, "rows": len(rows)},
        label="speed" if name == TEMPORARY else "",
    )


def _temporary(path: Path) -> FeatureStore:
    writer = StoreWriter.open(path)
    writer.add_clips([ClipRecord(f"c/{n}", "c", f"{n}.mp4", f"{n:064x}") for n in range(ROWS)], root=path.parent)
    stream = writer.stream(StreamSpec("video", "doctor", {"made": "by avem doctor"}, ROW_SHAPE, 4))
    rng = np.random.default_rng(0)
    for shard in stream.pending():
        count = len(shard.rows)
        features = rng.random((count, *ROW_SHAPE), dtype=np.float32).astype(np.float16)
        stream.write(shard, features, np.zeros((count, 4), dtype=np.float32), [RowDetails() for _ in shard.rows])
    writer.finish()
    return FeatureStore.open(path)
