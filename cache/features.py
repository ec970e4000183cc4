"""One stream of a store, for reading: features, companions and pooled vectors by row number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from avem.cache.disk import layout
from avem.cache.disk.arrays import ArraySpec, is_byte_ranges, spec_from_metadata, stream_arrays
from avem.cache.disk.encode import TORCH_DTYPES, byte_view
from avem.cache.disk.ragged_readers import RaggedReader, RaggedRows, RaggedZarrRows, RowSpan, read_ragged
from avem.cache.disk.readers import ByteRangeRows, Int8Rows, RowReader, ZarrRows, read_in_parallel, row_buffer
from avem.cache.disk.shards import RowError
from avem.cache.disk.stream_shards import is_span
from avem.cache.remote.ragged import RemoteRagged
from avem.cache.remote.rows import RemoteRows
from avem.cache.spec import StreamSpec, sized
from avem.errors import SettingError, StoreError, UnknownClipError

if TYPE_CHECKING:
    from pathlib import Path

    from avem.cache.store import FeatureStore

RowNumbers: TypeAlias = "Sequence[int] | npt.NDArray[np.integer[Any]] | torch.Tensor"


class Stream:
    """One encoder's features of a store's clips; made by `FeatureStore.stream`.

    It sees what the store saw when it was opened or last refreshed.

    Args:
        store: The store.
        entry: The stream's name, and its column in the manifest.
    """

    def __init__(self, store: FeatureStore, entry: layout.StreamEntry) -> None:
        self._store, self.name, self.column = store, entry.name, entry.column
        self._spec: StreamSpec | None = None
        self._readers: dict[str, RowReader] = {}
        self._ragged_readers: dict[str, RaggedReader] = {}
        self._metadata: dict[str, dict[str, Any]] = {}

    @property
    def spec(self) -> StreamSpec:
        """Description of the stream.

        Raises:
            StoreError: Its metadata is lost or damaged.
        """
        if self._spec is None:
            where = f"{self._store.location.url}/{self.name}/features"
            self._spec = spec_from_metadata(self.array_metadata("features"), where)
        return self._spec

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that the features depend on; `avem.files.json_sha256` makes a key of it."""
        return dict(self.spec.fingerprint)

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each clip has features in this stream, bool [clips]."""
        return self._available.copy()

    @property
    def _available(self) -> npt.NDArray[np.bool_]:
        """The same, without a copy: every read of rows looks at it."""
        return self._store.available_in(self.column)

    def rows(self, rows: RowNumbers, out: torch.Tensor | None = None) -> Any:
        """Features of some clips, as kept (int8 comes as float16).

        Args:
            rows: R row numbers, in any order, repeated at will.
            out: Of a stream of fixed shape, a tensor of the result's shape and type to read into.

        Returns:
            [R, *row_shape]; where the length differs by clip, a list of R tensors [n_i, C].

        Raises:
            StoreError: A clip has no features in this stream (the message says why), or a shard is damaged.
            UnknownClipError: There is no such row.
            SettingError: The buffer has another shape or type.
        """
        spec, numbers = self.spec, self._checked(rows)
        if spec.ragged:
            if out is not None:
                raise SettingError(f"Rows of {self.name} differ in length and can't be read into one buffer.")
            return self._ragged_features(numbers)
        buffer = self._buffer(len(numbers), out)
        reader = self._reader("features")
        if spec.dtype == "int8":
            reader = Int8Rows(reader, self._reader("scale"), spec.sized(1))
        with self._naming_damage():
            read_in_parallel(reader, numbers, byte_view(buffer))
        return buffer

    def companion(self, name: str, rows: RowNumbers) -> Any:
        """What a stream keeps beside its features.

        Args:
            name: One of `spec.companions`.
            rows: R row numbers.

        Returns:
            [R, *row_shape] in the companion's type; where it follows the length of the features, a list of R tensors.

        Raises:
            StoreError: The stream has no such companion, a clip has no features, or a shard is damaged.
            UnknownClipError: There is no such row.
        """
        companion = self.spec.companions.get(name)
        if companion is None:
            held = ", ".join(self.spec.companions) or "none"
            raise StoreError(f"{self._where} has no companion {name}; it has {held}.")
        numbers = self._checked(rows)
        dtype = getattr(torch, companion.dtype)
        if companion.ragged:
            spans = self._spans(numbers)
            found = [torch.empty(sized(companion.row_shape, span.stop - span.start), dtype=dtype) for span in spans]
            self._read_ragged(name, spans, found)
            return found
        values = torch.empty((len(numbers), *sized(companion.row_shape, 0)), dtype=dtype)
        with self._naming_damage():
            self._reader(name).read_into(numbers, byte_view(values))
        return values

    def lengths(self, rows: RowNumbers) -> npt.NDArray[np.int64]:
        """Tokens of some clips, int64 [R], without reading features; of fixed rows, 1 each.

        Raises:
            StoreError: A clip has no features in this stream, or its offsets are damaged.
            UnknownClipError: There is no such row.
        """
        numbers = self._checked(rows)
        if not self.spec.ragged:
            return np.ones(len(numbers), dtype=np.int64)
        return np.array([span.stop - span.start for span in self._spans(numbers)], dtype=np.int64)

    def span(self, row: int) -> tuple[int, int]:
        """First token of a row in the stream's flat arrays, and the one after its last.

        Raises:
            StoreError: The clip has no features in this stream, or its offsets are damaged.
        """
        return self.spans([row])[0]

    def spans(self, rows: RowNumbers) -> list[tuple[int, int]]:
        """First token of each row, and the one after its last; raises as `span`."""
        return [(span.start, span.stop) for span in self._spans(self._checked(rows))]

    def pooled(self) -> npt.NDArray[np.float32]:
        """Pooled vectors, float32 [clips, D] of L2 norm 1; zero where a clip has none.

        Raises:
            StoreError: A shard is damaged.
        """
        return self._small_rows("pooled", (self.spec.pooled_dim,))

    def int8_errors(self) -> npt.NDArray[np.float32]:
        """Relative error of each int8 row that is there, float32 [available]: RMS of the error over RMS of the values.

        Raises:
            StoreError: A shard is damaged.
        """
        errors: npt.NDArray[np.float32] = self._small_rows("error", ())[self._available]
        return errors

    def array_metadata(self, array: str) -> dict[str, Any]:
        """Zarr metadata of one of the stream's arrays.

        Raises:
            StoreError: It is lost or damaged.
        """
        if array in self._metadata:
            return self._metadata[array]
        where = f"{self._store.location.url}/{self.name}/{array}"
        data = self._store.location.read(f"{self.name}/{array}/{layout.METADATA}")
        if data is None:
            raise StoreError(f"{where} has lost its {layout.METADATA}; the store is damaged there.")
        metadata = layout.parse_metadata(data, where)
        if self._store.location.remote is not None:
            self._metadata[array] = metadata
        return metadata

    def forget(self) -> None:
        """Forget what was read of arrays that may have changed since."""
        self._metadata.clear()

    def array_rows(self, array: str) -> int:
        """For how many clips one of the stream's arrays, of a row each, was made."""
        return int(self.array_metadata(array)["shape"][0])

    def shard_folder(self, array: str) -> Path | None:
        """Folder of an array of plain byte ranges on this machine; None where only Zarr can read it."""
        local = self._store.location.local
        return local / self.name / array if local is not None and is_byte_ranges(self.array_metadata(array)) else None

    @property
    def _where(self) -> str:
        return f"{self._store.location.url}/{self.name}"

    def _array(self, name: str) -> ArraySpec:
        return stream_arrays(self.spec)[name]

    def _small_rows(self, array: str, row_shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """A whole array of float32 rows [clips, *row_shape], zero where a clip has none."""
        rows = np.flatnonzero(self._available)
        found = torch.empty((len(rows), *row_shape))
        with self._naming_damage():
            self._reader(array).read_into(rows, byte_view(found))
        values = np.zeros((len(self._store), *row_shape), dtype=np.float32)
        values[rows] = found.numpy()
        return values

    def _ragged_features(self, rows: npt.NDArray[np.int64]) -> list[torch.Tensor]:
        spec, spans = self.spec, self._spans(rows)
        dtype = TORCH_DTYPES[spec.dtype]
        shapes = [spec.sized(span.stop - span.start) for span in spans]
        found = [self._memory(shape, dtype) for shape in shapes]
        if spec.dtype != "int8":
            self._read_ragged("features", spans, found)
            return found
        from avem.cache.disk.quantise import (
            dequantise_tokens,  # compiling takes a second that other types need not wait for
        )

        tokens = [torch.empty(shape, dtype=torch.int8) for shape in shapes]
        scales = [torch.empty(shape[0], dtype=torch.float32) for shape in shapes]
        self._read_ragged("features", spans, tokens)
        self._read_ragged("scale", spans, scales)
        for quantised, scale, out in zip(tokens, scales, found, strict=True):
            dequantise_tokens(quantised.numpy(), scale.numpy(), out.view(torch.uint16).numpy())
        return found

    def _memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor; NumPy asks for huge pages, which makes filling fresh memory twice as fast."""
        if self._store.pins:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)

    def _read_ragged(self, array: str, spans: Sequence[RowSpan], found: Sequence[torch.Tensor]) -> None:
        outs = [byte_view(tensor.view(1, -1))[0] for tensor in found]
        with self._naming_damage():
            read_ragged(self._ragged_reader(array), spans, outs)

    def _spans(self, rows: npt.NDArray[np.int64]) -> list[RowSpan]:
        """Where rows stand in the stream's flat arrays.

        Raises:
            StoreError: Offsets can't be read, are damaged, or can't be those of their row.
        """
        offsets = torch.empty((len(rows), 2), dtype=torch.int64)
        array = self._array("features")
        with self._naming_damage():
            self._reader("offsets").read_into(rows, byte_view(offsets))
            spans = [RowSpan(row, *pair) for row, pair in zip(rows.tolist(), offsets.tolist(), strict=True)]
            for span in spans:
                base = span.row // array.rows_per_shard * array.shard_tokens
                if not is_span(array, (span.start - base, span.stop - base)):
                    raise RowError(span.row, f"has offsets ({span.start} to {span.stop}) that can't be its own")
        return spans

    def _checked(self, rows: RowNumbers) -> npt.NDArray[np.int64]:
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        wrong = numbers[(numbers < 0) | (numbers >= len(self._store))]
        if len(wrong):
            raise UnknownClipError(
                f"{self._store.location.url} has no row {wrong[0]}; it holds {len(self._store)} clips."
            )
        missing = numbers[~self._available[numbers]]
        if len(missing):
            clip = self._store.clip(int(missing[0]))
            status = clip.get(f"{self.column}_status") or "pending"
            raise StoreError(
                f"The clip {clip['clip_id']} has no {self.column} features in {self._store.location.url} ({status})."
            )
        return numbers

    def _buffer(self, rows: int, out: torch.Tensor | None) -> torch.Tensor:
        dtype, row_shape = TORCH_DTYPES[self.spec.dtype], self.spec.sized(1)
        shape = (rows, *row_shape)
        if out is None:
            return row_buffer(rows, row_shape, dtype, pin=self._store.pins)
        if out.shape != shape or out.dtype != dtype or not out.is_contiguous():
            raise SettingError(
                f"Features need a contiguous {dtype} buffer of shape {shape}, not {out.dtype} {out.shape}."
            )
        return out

    def _reader(self, array: str) -> RowReader:
        if array not in self._readers:
            self._readers[array] = self._open_reader(array)
        return self._readers[array]

    def _open_reader(self, array: str) -> RowReader:
        location, spec, check = self._store.location, self._array(array), self._store.checks
        name, axes = f"{self.name}/{array}", 1 + len(spec.element_shape)
        if not is_byte_ranges(self.array_metadata(array)):
            return ZarrRows(location, name)
        if location.remote is not None:
            return RemoteRows(location.remote, name, spec.rows_per_shard, axes, check=check)
        return ByteRangeRows(location.folder / name, spec.rows_per_shard, axes, check=check)

    def _ragged_reader(self, array: str) -> RaggedReader:
        if array not in self._ragged_readers:
            self._ragged_readers[array] = self._open_ragged_reader(array)
        return self._ragged_readers[array]

    def _open_ragged_reader(self, array: str) -> RaggedReader:
        location, spec, name = self._store.location, self._array(array), f"{self.name}/{array}"
        if not is_byte_ranges(self.array_metadata(array)):
            return RaggedZarrRows(location, name, spec)
        if location.remote is not None:
            return RemoteRagged(location.remote, name, spec, check=self._store.checks)
        return RaggedRows(location.folder / name, spec, check=self._store.checks)

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """Say of a row that can't be read which clip it is, and what to do."""
        try:
            yield
        except RowError as error:
            clip = self._store.clip(error.row)["clip_id"]
            raise StoreError(
                f"The {self.column} features of the clip {clip} in {self._store.location.url} can't be used: row "
                f"{error.row} {error.problem}; `avem cache verify` names all such rows and `avem cache repair` "
                "extracts them again."
            ) from error
