"""Which stream of a store is which stream of a model, and a handle on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avem.errors import FingerprintError
from avem.files import json_sha256
from avem.train.model.media import SIDES, FamilyStream, Side, StreamRow

if TYPE_CHECKING:
    from avem.cache import FeatureStore

MISSING = "The store {store} has no {name} features that {model} reads{why}; make them with `avem extract CLIPS --for {model} --cache {store}`."
SEVERAL = "The store {store} has several streams that {model} could read as {name} ({found}); keep one of them in a store."


class StoreStream:
    """One stream of a store, fixed or ragged.

    Args:
        store: The store.
        name: The stream's name there, or its slot.
    """

    def __init__(self, store: FeatureStore, name: str) -> None:
        self.name = name
        self._stream: Any = store.stream(name)
        self.spec: Any = self._stream.spec

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Everything that the features depend on."""
        return cast("Mapping[str, Any]", self._stream.fingerprint)

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has a row, bool `[clips]`."""
        return np.asarray(self._stream.available, dtype=np.bool_)

    def rows(self, rows: Sequence[int]) -> Tensor | list[Tensor]:
        """Features of some clips: a list of tensors where lengths differ, else one stacked tensor."""
        return cast("Tensor | list[Tensor]", self._stream.rows(rows))

    def companion(self, name: str, rows: Sequence[int]) -> Tensor | list[Tensor]:
        """A companion of some clips, as `rows`."""
        return cast("Tensor | list[Tensor]", self._stream.companion(name, rows))

    def follows(self, name: str) -> bool:
        """Whether a companion is as long as the features, and so holds content of the clip."""
        return None in self.spec.companions[name].shape

    def outlines(self, companions: Sequence[str]) -> Callable[[int], StreamRow]:
        """A function that gives the shapes of a row, reading no features; small companions have their values."""
        if not self.spec.ragged and not companions:
            outline = StreamRow(torch.empty(self.spec.row_shape, device="meta"))
            return lambda row: outline
        there = np.flatnonzero(self.available)
        index = {int(row): number for number, row in enumerate(there)}
        lengths = self._stream.lengths(there) if self.spec.ragged else [None] * len(there)
        small = {name: self.companion(name, there.tolist()) for name in companions if not self.follows(name)}
        made: dict[int, StreamRow] = {}

        def outline_of(row: int) -> StreamRow:
            if row not in made:
                number = index[row]
                length = None if lengths[number] is None else int(lengths[number])
                more = {
                    name: small[name][number]
                    if name in small
                    else torch.empty(_filled(self.spec.companions[name].shape, length), device="meta")
                    for name in companions
                }
                made[row] = StreamRow(torch.empty(_filled(self.spec.row_shape, length), device="meta"), more)
            return made[row]

        return outline_of


class SlotStream(StoreStream):
    """A stream that a store gives by its slot alone."""

    def __init__(self, store: FeatureStore, name: str) -> None:
        self.name, self._store, self._slot = name, store, cast("Side", name)

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """Description of the stream."""
        return self._store.spec(self._slot)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Everything that the features depend on."""
        return self._store.fingerprint(self._slot)

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has a row, bool `[clips]`."""
        return np.asarray(self._store.available(self._slot), dtype=np.bool_)

    def rows(self, rows: Sequence[int]) -> Tensor:
        """Features of some clips, stacked."""
        return self._store.video(rows) if self._slot == "video" else self._store.audio(rows)

    def outlines(self, companions: Sequence[str]) -> Callable[[int], StreamRow]:
        """A function that gives the shape of a row."""

        def outline_of(row: int) -> StreamRow:
            described = getattr(self._store, "spec", None)  # a store in memory may have none
            shape = described(self._slot).row_shape if described else self.rows([row]).shape[1:]
            return StreamRow(torch.empty(shape, device="meta"))

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
        return FingerprintError(message.format(**where, **more))

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
        return [SlotStream(store, slot) for slot in SIDES if slot in getattr(store, "kinds", SIDES)]
    return [StoreStream(store, name) for name in names]


def _slot(handle: StoreStream) -> str:
    return handle.name.partition("/")[0]


def _fits(handle: StoreStream, stream: FamilyStream) -> bool:
    """Whether a store's stream can be a model's: slot, raggedness, and nothing in its fingerprint against it.

    Imported features may not say which weights they come from.
    """
    if _slot(handle) != stream.slot:
        return False
    if isinstance(handle, SlotStream):
        return not stream.ragged and not stream.expect
    says = {"encoder": handle.name.partition("/")[2], **handle.fingerprint}
    agrees = all(says.get(name, value) == value for name, value in stream.expect.items())  # silence is no contradiction
    return bool(handle.spec.ragged) == stream.ragged and agrees


def _narrowed(fit: list[StoreStream], stream: FamilyStream, digest: str) -> list[StoreStream]:
    """Of several streams those that the model was trained on, or those of its width."""
    if len(fit) > 1 and digest:
        fit = [handle for handle in fit if json_sha256(dict(handle.fingerprint)) == digest] or fit
    if len(fit) > 1 and stream.width is not None:
        fit = [handle for handle in fit if handle.spec.row_shape[-1] == stream.width] or fit
    return fit


def _filled(shape: Sequence[int | None], length: int | None) -> tuple[int, ...]:
    """A shape with the row's length where it is open."""
    return tuple(int(length or 0) if size is None else size for size in shape)
