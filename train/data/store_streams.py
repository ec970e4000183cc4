"""Which stream of a store is which stream of a model, and a handle on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avem.cache import StreamSpec
from avem.cache.spec import sized
from avem.errors import FingerprintError
from avem.files import json_sha256
from avem.train.model.media import SIDES, FamilyStream, Side, StreamRow

if TYPE_CHECKING:
    from avem.cache import FeatureStore

MISSING = "The store {store} has no {name} features that {model} reads{why}; {hint}."
MADE = "make them with `avem extract CLIPS --for {model} --cache {store}`"
SEVERAL = (
    "The store {store} has several streams that {model} could read as {name} ({found}); use a store with one of them."
)


class StoreStream(Protocol):
    """One stream of a store, as `avem.cache.features.Stream` is."""

    @property
    def name(self) -> str:
        """Its name in the store, `slot/encoder`, or its slot."""

    @property
    def spec(self) -> StreamSpec:
        """Description of the stream."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the features depend on."""

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has a row, bool `[clips]`."""

    def rows(self, rows: Sequence[int]) -> Any:
        """Features of some clips: a list of tensors where lengths differ, else one stacked tensor."""

    def companion(self, name: str, rows: Sequence[int]) -> Any:
        """A companion of some clips, as `rows`."""

    def lengths(self, rows: Sequence[int]) -> npt.NDArray[np.int64]:
        """Tokens of some clips, without reading features."""


class SlotStream:
    """A stream of a store that knows its streams by slot alone, such as one in memory.

    Args:
        store: Has `available`, `fingerprint`, `video` and `audio`.
        slot: `video` or `audio`.
    """

    def __init__(self, store: FeatureStore, slot: Side) -> None:
        self.name, self._store = slot, store

    @property
    def spec(self) -> StreamSpec:
        """Description of the stream, from some clip's features."""
        some = np.flatnonzero(self.available)[:1].tolist()
        return StreamSpec(self.name, "memory", self.fingerprint, tuple(self.rows(some).shape[1:]), 1)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the features depend on."""
        return dict(self._store.fingerprint(self.name))

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has a row, bool `[clips]`."""
        return np.asarray(self._store.available(self.name), dtype=np.bool_)

    def rows(self, rows: Sequence[int]) -> Tensor:
        """Features of some clips, stacked."""
        read = self._store.video if self.name == "video" else self._store.audio
        features: Tensor = read(rows)
        return features

    def companion(self, name: str, rows: Sequence[int]) -> Any:
        """There are none."""
        raise FingerprintError(f"The {self.name} features have no {name} beside them.")

    def lengths(self, rows: Sequence[int]) -> npt.NDArray[np.int64]:
        """All rows are alike."""
        return np.ones(len(rows), dtype=np.int64)


def outlines(stream: StoreStream, companions: Sequence[str]) -> Callable[[int], StreamRow]:
    """A function that gives the shapes of a row, reading no features.

    Args:
        stream: A stream of a store; lengths and small companions of all its rows are read now.
        companions: Those that are wanted; small ones have their values, those as long as the features are on `meta`.
    """
    spec = stream.spec
    if not spec.ragged and not companions:
        outline = StreamRow(torch.empty(spec.sized(1), device="meta"))
        return lambda row: outline
    there = np.flatnonzero(stream.available).tolist()
    index = {row: number for number, row in enumerate(there)}
    lengths = stream.lengths(there).tolist()
    small = {name: stream.companion(name, there) for name in companions if not spec.companions[name].ragged}
    made: dict[int, StreamRow] = {}

    def outline_of(row: int) -> StreamRow:
        if row not in made:
            number = index[row]
            more = {
                name: small[name][number]
                if name in small
                else torch.empty(sized(spec.companions[name].row_shape, lengths[number]), device="meta")
                for name in companions
            }
            made[row] = StreamRow(torch.empty(spec.sized(lengths[number]), device="meta"), more)
        return made[row]

    return outline_of


def find_streams(
    store: FeatureStore,
    streams: Sequence[FamilyStream],
    sides: Sequence[Side],
    expected: Callable[[str], str],
    model: str,
) -> dict[str, StoreStream]:
    """The store's stream for each of a model's, by the model's name for it.

    Args:
        store: Where to look.
        streams: What the model reads.
        sides: Sides that are shown; a stream of another side may be missing.
        expected: Digest of the features that the model was trained on, by name; empty where unknown.
        model: What the model is called.

    Raises:
        FingerprintError: A stream is missing, or several fit.
    """
    found: dict[str, StoreStream] = {}
    handles = _handles(store)

    def refuse(message: str, stream: FamilyStream, **more: str) -> FingerprintError:
        where = {"store": store.location.url, "model": model or "the model", "name": stream.name}
        hint = (stream.hint or MADE).format(**where)
        return FingerprintError(message.format(**where, **more, hint=hint))

    for stream in streams:
        fit = [handle for handle in handles if _fits(handle, stream)]
        fit = _narrowed(fit, stream, expected(stream.name))
        if len(fit) > 1:
            raise refuse(SEVERAL, stream, found=", ".join(handle.name for handle in fit))
        if fit:
            found[stream.name] = fit[0]
        elif stream.required and stream.side in sides:
            others = [handle.name for handle in handles if _slot(handle) == stream.slot]
            why = f" ({', '.join(others)} was made by another encoder or with other weights)" if others else ""
            raise refuse(MISSING, stream, why=why)
    return found


def _handles(store: FeatureStore) -> list[StoreStream]:
    names = getattr(store, "streams", None)
    if names is None:
        return [SlotStream(store, side) for side in SIDES]
    return [store.stream(name) for name in names]


def _slot(handle: StoreStream) -> str:
    return handle.name.partition("/")[0]


def _fits(handle: StoreStream, stream: FamilyStream) -> bool:
    """Whether a store's stream can be a model's, and its fingerprint says nothing against it.

    Imported features may not say which weights they come from, and name their folder as the encoder.
    """
    if _slot(handle) != stream.slot:
        return False
    if isinstance(handle, SlotStream):
        return not stream.ragged and not stream.expect
    says, encoder = handle.fingerprint, handle.name.partition("/")[2]
    agrees = all(
        says.get(name, value) == value or (name == "encoder" and encoder == value)  # silence is no contradiction
        for name, value in stream.expect.items()
    )
    held = set(stream.companions) <= handle.spec.companions.keys()
    return handle.spec.ragged == stream.ragged and agrees and held


def _narrowed(fit: list[StoreStream], stream: FamilyStream, digest: str) -> list[StoreStream]:
    """Of several streams those that the model was trained on, or those of its width."""
    if len(fit) > 1 and digest:
        fit = [handle for handle in fit if json_sha256(handle.fingerprint) == digest] or fit
    if len(fit) > 1 and stream.width is not None:
        fit = [handle for handle in fit if handle.spec.row_shape[-1] == stream.width] or fit
    return fit
