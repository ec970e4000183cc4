"""Batches of features for training, read ahead on a thread into a fixed set of buffers that are used again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch

from avem.cache.disk.encode import TORCH_DTYPES
from avem.cache.records import Kind
from avem.cache.store import FeatureStore, RowNumbers
from avem.errors import SettingError

MIB = 2**20
ALIGNMENT = 64
"""Bytes that a stream's rows start at a multiple of within a buffer."""

BatchRows = Mapping[Kind, RowNumbers]
"""Which rows of each stream a batch holds."""


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Features of one batch; they stand in a buffer that is overwritten once the next batch is taken."""

    rows: Mapping[Kind, npt.NDArray[np.int64]]
    """int64 [n] per stream."""
    features: Mapping[Kind, torch.Tensor]
    """[n, *row_shape] per stream."""


@dataclass(slots=True)
class _Slot:
    """One buffer, large enough for the largest batch it has held."""

    memory: torch.Tensor | None = None


@dataclass(slots=True)
class _Shared:
    """What the reading thread and the iterator share; the thread holds no reference to the iterator."""

    store: FeatureStore
    batches: Iterator[BatchRows]
    slot_bytes: int
    pin: bool
    free: SimpleQueue[_Slot | None] = field(default_factory=SimpleQueue)
    ready: SimpleQueue[tuple[_Slot, FeatureBatch] | BaseException | None] = field(default_factory=SimpleQueue)


class Prefetcher:
    """Iterates over batches while the next ones are read; also a context manager, which ends the reading early.

    At most `ahead` batches are kept ready beside the one in use. A batch's tensors are valid until the next is taken:
    copy what has to last, and wait for a copy to a GPU before going on.

    Args:
        store: Where the features are.
        batches: The rows of each batch, for each stream it needs; taken as they are needed, on the reading thread.
        ahead: Batches kept ready, at least 1.
        memory_mb: Bound on all buffers together, MiB; None: no bound but that of the batches' own size.
        pin: Whether buffers are in pinned memory.

    Raises:
        SettingError: A number makes no sense; while iterating: a batch does not fit into its share of the memory.
        StoreError: While iterating: a row can't be read.
    """

    def __init__(
        self,
        store: FeatureStore,
        batches: Iterable[BatchRows],
        *,
        ahead: int = 2,
        memory_mb: int | None = None,
        pin: bool = False,
    ) -> None:
        if ahead < 1 or (memory_mb is not None and memory_mb < 1):
            raise SettingError(f"Reading ahead needs at least 1 batch and 1 MiB, not {ahead} and {memory_mb}.")
        slot_bytes = memory_mb * MIB // (ahead + 1) if memory_mb is not None else 2**62
        self._shared = _Shared(store, iter(batches), slot_bytes, pin)
        for _ in range(ahead + 1):
            self._shared.free.put(_Slot())
        self._held: _Slot | None = None
        self._over = False
        self.waited_s = 0.0
        """Seconds that the caller has waited for batches that were not ready."""
        self._thread = threading.Thread(target=_read_ahead, args=(self._shared,), name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> FeatureBatch:
        if self._held is not None:
            self._shared.free.put(self._held)
            self._held = None
        if self._over:
            raise StopIteration
        start = time.perf_counter()
        item = self._shared.ready.get()
        self.waited_s += time.perf_counter() - start
        if isinstance(item, tuple):
            self._held, batch = item
            return batch
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self._shared.free.put(None)

    def close(self) -> None:
        """Stop reading and wait for the thread; nothing more is given."""
        self._over = True
        self._shared.free.put(None)
        self._thread.join()


def _read_ahead(shared: _Shared) -> None:
    """Fill free buffers until the batches end, or the iterator puts None in place of a buffer."""
    try:
        while (slot := shared.free.get()) is not None:
            rows = next(shared.batches, None)
            if rows is None:
                break
            shared.ready.put((slot, _read_batch(shared, slot, rows)))
    except BaseException as error:  # noqa: BLE001  whatever it is, the caller's thread is where it belongs
        shared.ready.put(error)
    else:
        shared.ready.put(None)


def _read_batch(shared: _Shared, slot: _Slot, batch: BatchRows) -> FeatureBatch:
    rows = {kind: np.asarray(numbers, dtype=np.int64).reshape(-1) for kind, numbers in batch.items()}
    sizes = [len(numbers) * _row_bytes(shared.store, kind) for kind, numbers in rows.items()]
    starts = np.cumsum([0, *(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)]).tolist()
    if starts[-1] > shared.slot_bytes:
        raise SettingError(
            f"A batch takes {starts[-1] / MIB:.1f} MiB and {shared.slot_bytes / MIB:.1f} MiB are given to each that is "
            "kept ready; read fewer ahead, give more memory, or make batches smaller."
        )
    if slot.memory is None or slot.memory.numel() < starts[-1]:
        slot.memory = None  # given back before more is taken
        slot.memory = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=shared.pin)
    features = {}
    for (kind, numbers), start, size in zip(rows.items(), starts, sizes, strict=False):
        spec = shared.store.spec(kind)
        out = slot.memory[start : start + size].view(TORCH_DTYPES[spec.dtype]).view(len(numbers), *spec.row_shape)
        features[kind] = shared.store.features(kind, numbers, out)
    return FeatureBatch(rows, features)


def _row_bytes(store: FeatureStore, kind: Kind) -> int:
    """Bytes of one row as it is read."""
    spec = store.spec(kind)
    return math.prod(spec.row_shape) * TORCH_DTYPES[spec.dtype].itemsize
