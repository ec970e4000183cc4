"""What a store holds, in numbers: for `avem cache info` and for reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avem.cache.decoders import OLD, decoder_of
from avem.cache.disk.arrays import ArraySpec, stream_arrays
from avem.cache.disk.layout import METADATA
from avem.cache.disk.manifest import statuses
from avem.cache.disk.shards import CRC_BYTES
from avem.cache.features import Stream
from avem.cache.negatives.mine import negatives_attributes
from avem.cache.negatives.staleness import is_stale, labels_digest
from avem.cache.records import FAILED, OK, PENDING, ClipFailure
from avem.cache.spec import RowShape
from avem.cache.store import FeatureStore
from avem.cache.windows import clip_spans, is_long, whole_ids
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

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def store_info(store: FeatureStore) -> StoreInfo:
    """Count what a store holds; features themselves are not read.

    Raises:
        StoreError: The store is damaged.
    """
    failures = [
        ClipFailure(clip_id, column, status.removeprefix(f"{FAILED}: "))
        for column in (store.stream(name).column for name in store.streams)
        for clip_id, status in zip(_column(store, "clip_id"), statuses(store.clips, column), strict=True)
        if status.startswith(FAILED)
    ]
    return StoreInfo(
        place=mask(store.location.url),
        format_version=store.format_version,
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
        streams=tuple(_stream_info(store, store.stream(name)) for name in store.streams),
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


def _stream_info(store: FeatureStore, stream: Stream) -> StreamInfo:
    spec = stream.spec
    found = Counter(status.partition(":")[0] for status in statuses(store.clips, stream.column))
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
