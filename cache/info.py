"""What a store holds, in numbers: for `avem cache info` and for reports."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from avem.cache.decoders import OLD, decoder_of
from avem.cache.disk.layout import FORMAT_VERSION, METADATA, stream_arrays
from avem.cache.disk.shards import CRC_BYTES
from avem.cache.negatives.mine import negatives_attributes
from avem.cache.negatives.staleness import is_stale, labels_digest
from avem.cache.records import FAILED, OK, PENDING, ClipFailure, Kind
from avem.cache.store import FeatureStore
from avem.cache.windows import clip_spans, is_long, whole_ids
from avem.files import json_sha256
from avem.guards.secrets import mask


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream in numbers."""

    kind: Kind
    encoder: str
    dtype: str
    row_shape: tuple[int, ...]
    pooled_dim: int
    rows: int
    """Clips with features."""
    failed: int
    pending: int
    bytes: int
    """What the rows take on disk, checksums included and shard indices not."""
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

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def store_info(store: FeatureStore) -> StoreInfo:
    """Count what a store holds; features themselves are not read.

    Raises:
        StoreError: The store is damaged.
    """
    failures = [
        ClipFailure(clip_id, kind, status.removeprefix(f"{FAILED}: "))
        for kind in store.kinds
        for clip_id, status in zip(_column(store, "clip_id"), _column(store, f"{kind}_status"), strict=True)
        if status.startswith(FAILED)
    ]
    return StoreInfo(
        place=mask(store.location.url),
        format_version=FORMAT_VERSION,
        clips=len(store),
        datasets=dict(Counter(_column(store, "dataset"))),
        splits=dict(Counter(_column(store, "split"))),
        emotions=dict(Counter(label or "" for label in _column(store, "emotion"))),
        raw_labels=dict(
            Counter(
                raw or ""
                for raw, label in zip(_column(store, "emotions_raw"), _column(store, "emotion"), strict=True)
                if not label
            )
        ),
        streams=tuple(_stream_info(store, kind) for kind in store.kinds),
        failures=tuple(failures),
        negatives=tuple(_negatives(store)),
        **_lengths(store),
    )


def _lengths(store: FeatureStore) -> dict[str, Any]:
    """Silent and long clips, and windows."""
    names, spans, owners = _column(store, "clip_id"), clip_spans(store.clips), whole_ids(store.clips)
    cells = list(zip(names, spans, _column(store, "silent"), _column(store, "duration_s"), strict=True))
    return {
        "silent": tuple(name for name, _, silent, _ in cells if silent),
        "long": tuple(name for name, span, _, seconds in cells if span is None and is_long(seconds)),
        "windows": sum(span is not None for span in spans),
        "divided": len({owner for owner, span in zip(owners, spans, strict=True) if span is not None}),
    }


def _stream_info(store: FeatureStore, kind: Kind) -> StreamInfo:
    spec = store.spec(kind)
    statuses = Counter(status.partition(":")[0] for status in _column(store, f"{kind}_status"))
    row_bytes = sum(
        math.prod(shape) * np.dtype(data_type).itemsize + CRC_BYTES for shape, data_type in stream_arrays(spec).values()
    )
    decoder = decoder_of(spec.fingerprint)
    errors = store.int8_errors(kind) if spec.dtype == "int8" and statuses[OK] else None
    return StreamInfo(
        kind=kind,
        encoder=spec.encoder,
        dtype=spec.dtype,
        row_shape=spec.row_shape,
        pooled_dim=spec.pooled_dim,
        rows=statuses[OK],
        failed=statuses[FAILED],
        pending=statuses[PENDING],
        bytes=statuses[OK] * row_bytes,
        fingerprint=spec.fingerprint,
        digest=json_sha256(spec.fingerprint),
        decoder=OLD if decoder == "" else decoder,
        decoded_old_way=statuses[OK] if decoder == "" else 0,
        int8_error=None if errors is None else float(np.sqrt(np.square(errors).mean())),
        int8_error_largest=None if errors is None else float(errors.max()),
    )


def _negatives(store: FeatureStore) -> list[dict[str, Any]]:
    found = []
    digest = labels_digest(store.clips)
    for recipe in store.location.names("negatives"):
        for modality in store.location.names(f"negatives/{recipe}"):
            if not modality.startswith(".") and store.location.read(f"negatives/{recipe}/{modality}/{METADATA}"):
                attributes = negatives_attributes(store, recipe, modality)
                found.append({**attributes, "stale": is_stale(attributes, digest)})
    return found


def _column(store: FeatureStore, name: str) -> list[Any]:
    values: list[Any] = store.clips[name].to_pylist()
    return values
