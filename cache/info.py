"""What a store holds, in numbers: for `avem cache info` and for reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.decoders import OLD, decoder_of
from avem.cache.disk.arrays import ArraySpec, stream_arrays
from avem.cache.disk.layout import METADATA
from avem.cache.disk.shards import CRC_BYTES
from avem.cache.features import Stream
from avem.cache.manifest.view import ManifestView
from avem.cache.negatives.mine import negatives_attributes
from avem.cache.negatives.staleness import is_stale, labels_digest
from avem.cache.records import FAILED, OK, PENDING, ClipFailure
from avem.cache.spec import RowShape
from avem.cache.store import FeatureStore
from avem.cache.windows import WINDOW_S, is_long, whole_id
from avem.files import json_sha256
from avem.guards.secrets import mask


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream in numbers."""

    name: str
    """`slot/encoder`."""
    kind: str
    """The slot."""
    encoder: str
    modality: str
    dtype: str
    row_shape: RowShape
    """None stands for the length of a row where that differs by clip."""
    pooled_dim: int
    companions: tuple[str, ...]
    rows: int
    """Clips with features."""
    failed: int
    pending: int
    bytes: int
    """What the rows take on disk, checksums included and shard indices not."""
    tokens: int | None
    """Of all rows together where their length differs by clip; else None."""
    fingerprint: dict[str, Any]
    digest: str
    """SHA-256 of the fingerprint."""
    decoder: str | None
    """Decoder that the clips were read with; None where the features were imported."""
    decoded_old_way: int
    """Clips decoded before there was a choice: by decord's index, which takes wrong frames of some files."""
    int8_error: float | None
    """Root mean square over rows of int8's relative error, each relative to its row's own size; else None."""
    int8_error_largest: float | None
    """The largest row's."""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store in numbers."""

    place: str
    format_version: int
    clips: int
    datasets: dict[str, int]
    splits: dict[str, int]
    emotions: dict[str, int]
    """Clips per label; unlabelled ones under the empty name."""
    raw_labels: dict[str, int]
    """Clips per label that is none of the seven emotions, as the dataset spells it; without a label at all, ``."""
    streams: tuple[StreamInfo, ...]
    failures: tuple[ClipFailure, ...]
    negatives: tuple[dict[str, Any], ...]
    """Attributes of each array of mined negatives: recipe, modality, k, seed, how mining went, and whether labels
    have changed since, as `stale`."""
    silent: tuple[str, ...] = ()
    """Clips whose sound is all zeros."""
    long: tuple[str, ...] = ()
    """Clips longer than 30 s that the store holds whole: frames from all of it, sound from its first 30 s."""
    windows: int = 0
    """Clips that are windows of longer ones."""
    divided: int = 0
    """Clips that the store holds as windows."""
    subtitles: dict[str, int] = field(default_factory=dict)
    """Clips with a subtitle by where it comes from; empty where no clip has one."""

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def store_info(store: FeatureStore) -> StoreInfo:
    """Count what a store holds; features themselves are not read.

    Raises:
        StoreError: The store is damaged.
    """
    manifest, streams = store.manifest, [store.stream(name) for name in store.streams]
    return StoreInfo(
        place=mask(store.location.url),
        format_version=store.format_version,
        clips=len(store),
        datasets=_counts(manifest, "dataset"),
        splits=_counts(manifest, "split"),
        emotions=_counts(manifest, "emotion"),
        raw_labels=_raw_labels(manifest),
        streams=tuple(_stream_info(store, stream) for stream in streams),
        failures=tuple(failure for stream in streams for failure in _failures(manifest, stream.column)),
        negatives=tuple(_negatives(store)),
        subtitles={source: count for source, count in _counts(manifest, "subtitle_source").items() if source},
        **_lengths(manifest),
    )


def _counts(manifest: ManifestView, name: str) -> dict[str, int]:
    """Clips by what a column of few texts says; clips without a cell under the empty text."""
    counts: Counter[str] = Counter()
    for chunk in manifest.coded(name):
        codes, found = np.unique(pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False), return_counts=True)
        words = [*chunk.dictionary.to_pylist(), ""]  # the last is what -1 leads to
        for code, count in zip(codes.tolist(), found.tolist(), strict=True):
            counts[words[code] or ""] += count
    return dict(counts)


def _raw_labels(manifest: ManifestView) -> dict[str, int]:
    """Clips without an emotion by the label that their dataset gives them."""
    counts: Counter[str] = Counter()
    for _, table in manifest.groups(["emotions_raw", "emotion"]):
        without = table.filter(pc.equal(pc.fill_null(table["emotion"], ""), ""))["emotions_raw"]
        for item in pc.value_counts(without).to_pylist():
            counts[item["values"] or ""] += item["counts"]
    return dict(counts)


def _failures(manifest: ManifestView, kind: str) -> Iterator[ClipFailure]:
    name = f"{kind}_status"
    for chunk, first in _with_starts(manifest.coded(name)):
        failed = [code for code, word in enumerate(chunk.dictionary.to_pylist()) if (word or "").startswith(FAILED)]
        codes = pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(np.isin(codes, failed))
        if len(rows):
            ids = manifest.take(first + rows, ["clip_id"])["clip_id"].to_pylist()
            words = chunk.dictionary.to_pylist()
            for clip_id, code in zip(ids, codes[rows].tolist(), strict=True):
                yield ClipFailure(clip_id, kind, words[code].removeprefix(f"{FAILED}: "))


def _with_starts(chunks: Iterable[pa.DictionaryArray]) -> Iterator[tuple[pa.DictionaryArray, int]]:
    first = 0
    for chunk in chunks:
        yield chunk, first
        first += len(chunk)


def _lengths(manifest: ManifestView) -> dict[str, Any]:
    """Silent and long clips, and windows."""
    silent: list[str] = []
    long: list[str] = []
    owners: set[str] = set()
    windows = 0
    for first, table in manifest.groups(["silent", "start_s", "end_s", "duration_s"]):
        whole = pc.or_(pc.is_null(table["start_s"]), pc.is_null(table["end_s"])).to_numpy()
        quiet = pc.fill_null(table["silent"], False).to_numpy()
        seconds = pc.fill_null(table["duration_s"], 0.0).to_numpy()
        wanted = np.flatnonzero(~whole | quiet | (seconds > WINDOW_S))
        if not len(wanted):
            continue
        names = manifest.take(first + wanted, ["clip_id"])["clip_id"].to_pylist()
        for row, name in zip(wanted.tolist(), names, strict=True):
            if quiet[row]:
                silent.append(name)
            if whole[row] and is_long(float(seconds[row])):
                long.append(name)
            if not whole[row]:
                windows += 1
                owners.add(whole_id(name))
    return {"silent": tuple(silent), "long": tuple(long), "windows": windows, "divided": len(owners)}


def _stream_info(store: FeatureStore, stream: Stream) -> StreamInfo:
    spec = stream.spec
    found: Counter[str] = Counter()
    for status, count in _counts(store.manifest, f"{stream.column}_status").items():
        found[status.partition(":")[0] or PENDING] += count
    lengths = stream.lengths(np.flatnonzero(stream.available)) if spec.ragged else None
    decoder = decoder_of(spec.fingerprint)
    errors = stream.int8_errors() if spec.dtype == "int8" and found[OK] else None
    return StreamInfo(
        name=spec.name,
        kind=spec.kind,
        encoder=spec.encoder,
        modality=spec.modality,
        dtype=spec.dtype,
        row_shape=spec.row_shape,
        pooled_dim=spec.pooled_dim,
        companions=tuple(spec.companions),
        rows=found[OK],
        failed=found[FAILED],
        pending=found[PENDING],
        bytes=sum(_array_bytes(array, found[OK], lengths) for array in stream_arrays(spec).values()),
        tokens=None if lengths is None else int(lengths.sum()),
        fingerprint=spec.fingerprint,
        digest=json_sha256(spec.fingerprint),
        decoder=OLD if decoder == "" else decoder,
        decoded_old_way=found[OK] if decoder == "" else 0,
        int8_error=None if errors is None else float(np.sqrt(np.square(errors).mean())),
        int8_error_largest=None if errors is None else float(errors.max()),
    )


def _array_bytes(array: ArraySpec, rows: int, lengths: npt.NDArray[np.int64] | None) -> int:
    """What an array's rows take on disk; ragged ones fill whole chunks."""
    if lengths is None or not array.ragged:
        return rows * (array.element_bytes + CRC_BYTES)
    chunks = int((-(-lengths * array.fold // array.chunk)).sum())
    return chunks * (array.chunk * array.element_bytes + CRC_BYTES)


def _negatives(store: FeatureStore) -> list[dict[str, Any]]:
    found = []
    digest = ""  # reads four columns, so only where there are negatives
    for recipe in store.location.names("negatives"):
        for modality in store.location.names(f"negatives/{recipe}"):
            if not modality.startswith(".") and store.location.read(f"negatives/{recipe}/{modality}/{METADATA}"):
                attributes = negatives_attributes(store, recipe, modality)
                digest = digest or labels_digest(store.manifest)
                found.append({**attributes, "stale": is_stale(attributes, digest)})
    return found
