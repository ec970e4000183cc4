"""Small stores for tests, here and in other rooms' tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from avem.cache import ClipRecord, Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cache.manifest.columns import row_checks
from avem.cache.manifest.edit import write_part
from avem.cache.manifest.file import parquet_bytes
from avem.cache.manifest.parts import parse_part, part_columns

EMOTIONS = ("happiness", "sadness", "anger", "neutral")


def video_spec(dtype: str = "float16", rows_per_shard: int = 4) -> StreamSpec:
    return StreamSpec("video", "tiny-video", {"weights": "abc", "layer": -2}, (2, 3, 4), 5, dtype, rows_per_shard)


def audio_spec(dtype: str = "float16", rows_per_shard: int = 4) -> StreamSpec:
    return StreamSpec("audio", "tiny-audio", {"weights": "def"}, (6, 4), 5, dtype, rows_per_shard)


def clip_records(count: int, first: int = 0, dataset: str = "toy") -> list[ClipRecord]:
    return [
        ClipRecord(
            clip_id=f"{dataset}/{number:03d}",
            dataset=dataset,
            path=f"clips/{number:03d}.mp4",
            sha256=f"{number:064x}",
            emotion=EMOTIONS[number % len(EMOTIONS)],
            split="train",
            source=f"speaker-{number % 3}",
        )
        for number in range(first, first + count)
    ]


def row_values(spec: StreamSpec, rows: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and pooled vectors that depend on the row alone."""
    features, pooled = [], []
    for row in rows:
        rng = np.random.default_rng([seed, row, spec.kind == "video"])
        features.append(rng.normal(size=spec.row_shape).astype(np.float32))
        pooled.append(rng.normal(size=spec.pooled_dim).astype(np.float32))
    return np.array(features), np.array(pooled)


def ragged_spec(dtype: str = "float16", rows_per_shard: int = 3) -> StreamSpec:
    """Rows [n, 4] of 1 to 20 tokens in chunks of 8, with a number and an array of the row's length beside each."""
    companions = {"grid": Companion((3,), "int32"), "levels": Companion((2, None, 4), "float16")}
    return StreamSpec(
        "frame",
        "tiny-patches",
        {"weights": "ghi"},
        (None, 4),
        4,
        dtype,
        rows_per_shard,
        companions=companions,
        longest=20,
        chunk=8,
    )


def ragged_values(rows: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray, dict[str, list[np.ndarray]]]:
    """Features, pooled vectors and companions of `ragged_spec` that depend on the row alone."""
    features, pooled = [], []
    companions: dict[str, list[np.ndarray]] = {"grid": [], "levels": []}
    for row in rows:
        rng = np.random.default_rng([7, row])
        tokens = int(rng.integers(1, 21))
        features.append(rng.normal(size=(tokens, 4)).astype(np.float32))
        pooled.append(rng.normal(size=4).astype(np.float32))
        companions["grid"].append(np.array([row, tokens, 1], dtype=np.int32))
        companions["levels"].append(rng.normal(size=(2, tokens, 4)).astype(np.float16))
    return features, np.array(pooled), companions


def write_pending(writer: StoreWriter, spec: StreamSpec, seed: int = 0) -> None:
    stream = writer.stream(spec)
    for shard in stream.pending():
        features, pooled = row_values(spec, shard.rows, seed)
        stream.write(shard, features, pooled, [RowDetails(duration_s=1.5, has_audio=True)] * len(shard.rows))


def make_store(path: Path, clips: int = 10, dtype: str = "float16", rows_per_shard: int = 4) -> FeatureStore:
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(clips), root=path.parent)
    write_pending(writer, video_spec(dtype, rows_per_shard))
    write_pending(writer, audio_spec(dtype, rows_per_shard))
    writer.finish()
    return FeatureStore.open(path)


def read_entries(store: Path) -> pa.Table:
    """A store's first manifest file."""
    part = parse_part((store / "clips.parquet").read_bytes(), "clips.parquet")
    return part.read(part_columns(part))


def write_entries(store: Path, **cells: list[object]) -> None:
    """Write columns of a store's manifest anew, with checks that match."""
    table = read_entries(store)
    for name, values in cells.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))
    checks = pa.array(row_checks(table, np.arange(len(table))))
    table = table.set_column(table.column_names.index("check"), "check", checks)
    write_part(store, 0, parquet_bytes([table], table.schema, 0).data)


def write_everything(path: Path, clips: int) -> None:
    """Add clips and write every shard of two fixed streams and a ragged one that nobody else does."""
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(clips), root=path.parent)
    for spec in (video_spec(rows_per_shard=3), audio_spec(rows_per_shard=3)):
        stream = writer.stream(spec)
        for shard in stream.pending():
            if stream.claim(shard):
                stream.write(shard, *row_values(spec, shard.rows), [RowDetails(duration_s=1.0)] * len(shard.rows))
        writer.finish()
    stream = writer.stream(ragged_spec())
    for shard in stream.pending():
        if stream.claim(shard):
            features, pooled, companions = ragged_values(shard.rows)
            stream.write(shard, features, pooled, [RowDetails()] * len(shard.rows), companions)
    writer.finish()
