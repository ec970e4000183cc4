"""Features of a few clips in memory, in the form in which a model looks for them in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from avem.cache import StreamSpec
from avem.errors import StoreError
from avem.extract.in_memory import EncodedRow


class MemoryStream:
    """One stream of some clips, read as one of a store.

    Args:
        name: As the store calls it, `slot/encoder`, or its slot.
        spec: What the stream is.
    """

    def __init__(self, name: str, spec: StreamSpec) -> None:
        self.name, self.spec = name, spec
        self._rows: list[EncodedRow | None] = []

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the features depend on."""
        return dict(self.spec.fingerprint)

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has a row, bool `[clips]`."""
        return np.array([row is not None for row in self._rows], dtype=np.bool_)

    def add(self, row: EncodedRow | None) -> None:
        """Add the next clip's row; None where it has none."""
        self._rows.append(row)

    def rows(self, rows: Sequence[int]) -> Any:
        """Features of some clips: a list of tensors where lengths differ, else one stacked tensor.

        Raises:
            StoreError: A clip has none.
        """
        found = [self._row(row).features for row in rows]
        return found if self.spec.ragged else torch.stack(found)

    def companion(self, name: str, rows: Sequence[int]) -> Any:
        """A companion of some clips, as `rows`.

        Raises:
            StoreError: A clip has none.
        """
        found = [self._row(row).companions[name] for row in rows]
        return found if self.spec.companions[name].ragged else torch.stack(found)

    def lengths(self, rows: Sequence[int]) -> npt.NDArray[np.int64]:
        """Tokens of some clips; of fixed rows, 1 each."""
        lengths = [len(self._row(row).features) if self.spec.ragged else 1 for row in rows]
        return np.array(lengths, dtype=np.int64)

    def _row(self, row: int) -> EncodedRow:
        found = self._rows[row]
        if found is None:
            raise StoreError(f"Clip {row} has no {self.name} features.")
        return found


class MemoryStore:
    """Some clips' features in memory; has what models ask of a `FeatureStore`.

    Args:
        specs: The streams by name.
        name: What messages call it.
    """

    def __init__(self, specs: Mapping[str, StreamSpec], name: str = "memory") -> None:
        self.location = SimpleNamespace(url=name)
        self._streams = {stream: MemoryStream(stream, spec) for stream, spec in specs.items()}
        self._count = 0

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(self._streams)

    def stream(self, name: str) -> MemoryStream:
        """One stream by its name."""
        return self._streams[name]

    @property
    def clips(self) -> pa.Table:
        """A table with a row for each clip."""
        return pa.table({"clip_id": [str(number) for number in range(self._count)]})

    def add(self, rows: Mapping[str, EncodedRow]) -> int:
        """Add a clip.

        Args:
            rows: By name of the stream; those that the clip lacks are missing.

        Returns:
            Its row number.
        """
        for name, stream in self._streams.items():
            stream.add(rows.get(name))
        self._count += 1
        return self._count - 1
