"""The streams of a store that a model reads: found by slot and fingerprint, grouped by side, whatever their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avem.files import json_sha256
from avem.train.data.store_streams import find_streams, outlines
from avem.train.model.media import SIDES, FamilyStream, Group, Medium, Side, StreamRow

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel

PAIR = (
    FamilyStream("video", "video", "video", required=False),
    FamilyStream("audio", "audio", "audio", required=False),
)
"""One stream a side, of whatever encoder: what is read for a model that does not say what it reads."""
BYTES = 2
"""Of a number as the store hands it on: float16 or bfloat16."""

Alter = Callable[[str, Tensor], Tensor]
"""Puts noise on an array of a clip, given the array's name."""


class ClipStreams:
    """What a store holds for one model, side by side.

    Args:
        store: Where the features are.
        streams: The model's streams.
        sides: Sides that prompts show.
        expected: Digest of the features that the model was trained on, by stream; empty where unknown.
        model: What the model is called, for the command in the message.

    Raises:
        FingerprintError: The store lacks a stream that the model needs for a side that is shown.
    """

    def __init__(
        self,
        store: FeatureStore,
        streams: Sequence[FamilyStream] = PAIR,
        sides: Sequence[Side] = SIDES,
        *,
        expected: Callable[[str], str] = lambda name: "",
        model: str = "",
    ) -> None:
        self.store = store
        self._streams = streams
        self._found = find_streams(store, streams, sides, expected, model)
        self.sides = tuple(
            side for side in SIDES if side in sides and (names := self.names(side)) and names <= self._found.keys()
        )
        """Sides that are shown and that the store has."""

    @classmethod
    def of(cls, model: FamilyModel, store: FeatureStore, sides: Sequence[Side] = SIDES) -> ClipStreams:
        """What the store holds for a model; see the class for errors."""
        takes = getattr(model, "takes", lambda side: True)
        return cls(
            store,
            getattr(model, "streams", PAIR),
            [side for side in sides if takes(side)],
            expected=getattr(model, "expected_digest", lambda name: ""),
            model=str(getattr(model, "source", "")),
        )

    def names(self, side: Side) -> set[str]:
        """Names of a side's streams, as the model calls them."""
        return {stream.name for stream in self._streams if stream.side == side}

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Fingerprint of every stream of the model that the store has, shown or not."""
        return {name: dict(found.fingerprint) for name, found in self._found.items()}

    def digests(self) -> dict[str, str]:
        """SHA-256 of each fingerprint."""
        return {name: json_sha256(fingerprint) for name, fingerprint in self.fingerprints().items()}

    def identity(self) -> dict[str, dict[str, Any]]:
        """What scores depend on, by stream: fingerprint, number format and shape."""
        return {
            name: {
                "fingerprint": dict(found.fingerprint),
                "dtype": found.spec.dtype,
                "row_shape": list(found.spec.row_shape),
            }
            for name, found in self._found.items()
        }

    def available(self, side: Side) -> npt.NDArray[np.bool_]:
        """Whether each clip has all streams of a side, bool `[clips]`; nowhere for a side that is not shown."""
        if side not in self.sides:
            return np.zeros(len(self.store.clips), dtype=np.bool_)
        masks = [np.asarray(self._found[name].available, dtype=np.bool_) for name in self.names(side)]
        there: npt.NDArray[np.bool_] = np.stack(masks).all(axis=0)
        return there

    def shapes(self, side: Side, row: int) -> Group:
        """A side of a clip without its features: shapes on the device `meta`, and its small companions."""
        return {stream.name: self._outlines[stream.name](row) for stream in self._of(side)}

    def size(self, side: Side, row: int) -> int:
        """Bytes of a side of a clip in memory, in 16-bit numbers."""
        tensors = (
            tensor for one in self.shapes(side, row).values() for tensor in (one.features, *one.companions.values())
        )
        return sum(BYTES * tensor.numel() for tensor in tensors)

    def vectors(self, side: Side, row: int) -> int:
        """Feature vectors of a side of a clip: of `[T, N, C]` T x N, over all streams."""
        return sum(one.features.shape[:-1].numel() for one in self.shapes(side, row).values())

    def zeros(self, side: Side, row: int, dtype: torch.dtype) -> Medium:
        """A side of a clip with features of zeros, its small companions as they are."""
        group = {
            name: StreamRow(
                torch.zeros(one.features.shape, dtype=dtype),
                {
                    key: torch.zeros(value.shape, dtype=dtype) if value.is_meta else value
                    for key, value in one.companions.items()
                },
            )
            for name, one in self.shapes(side, row).items()
        }
        return self._medium(side, group)

    def read(
        self,
        side: Side,
        rows: Sequence[int],
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        alter: Mapping[int, Alter] | None = None,
    ) -> list[Medium]:
        """A side of some clips, each stream read in one call.

        Args:
            side: A side that the store has.
            rows: Store rows, with all streams of the side.
            device: Where it is wanted; None: where it is read to.
            dtype: Number format of features and of companions as long as they; None for the store's.
            alter: By index into `rows`: puts noise on that clip's features.

        Raises:
            StoreError: A clip lacks a stream, or the store is damaged.
        """
        groups: list[dict[str, StreamRow]] = [{} for _ in rows]
        for stream in self._of(side):
            found = self._found[stream.name]
            features = _placed(_altered(found.rows(rows), stream.name, alter), device, dtype)
            companions = {
                name: _placed(_altered(values, f"{stream.name}/{name}", alter), device, dtype)
                if found.spec.companions[name].ragged
                else _placed(values, device)
                for name, values in ((name, found.companion(name, rows)) for name in stream.companions)
            }
            for index, group in enumerate(groups):
                more = {name: values[index] for name, values in companions.items()}
                group[stream.name] = StreamRow(features[index], more)
        return [self._medium(side, group) for group in groups]

    def _of(self, side: Side) -> list[FamilyStream]:
        return [stream for stream in self._streams if stream.side == side]

    def _medium(self, side: Side, group: Group) -> Medium:
        streams = self._of(side)
        plain = len(streams) == 1 and not streams[0].companions
        return group[streams[0].name].features if plain else group

    @cached_property
    def _outlines(self) -> dict[str, Callable[[int], StreamRow]]:
        """How each stream gives the shapes of a row; lengths and small companions are read once."""
        companions = {stream.name: stream.companions for stream in self._streams}
        return {name: outlines(found, companions[name]) for name, found in self._found.items()}


def _altered(values: Tensor | list[Tensor], name: str, alter: Mapping[int, Alter] | None) -> Tensor | list[Tensor]:
    for index, change in (alter or {}).items():
        values[index] = change(name, values[index])
    return values


def _placed(
    values: Tensor | list[Tensor], device: torch.device | None, dtype: torch.dtype | None = None
) -> Sequence[Tensor]:
    """Arrays of several clips, one a clip, moved together where they are one."""
    if isinstance(values, Tensor):
        moved = (
            values if device is None and dtype is None else values.to(device or values.device, dtype, non_blocking=True)
        )
        return moved.unbind()
    return [value.to(device or value.device, dtype, non_blocking=True) for value in values]
