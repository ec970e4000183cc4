"""The arrays of a stream, and the Zarr v3 metadata that says so to every Zarr library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.cache.spec import Companion, RowShape, StreamSpec, default_modality
from avem.errors import StoreError

STORED_DTYPES = {"bfloat16": "uint16"}
"""Zarr data types by what they hold: bfloat16 has none in the core specification and is kept as its bits."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a stream."""

    row_shape: RowShape
    """Of one clip; None where its length differs by clip."""
    data_type: str
    """Zarr's name of it."""
    rows_per_shard: int
    longest: int
    """Most tokens of a clip's row, where the length differs."""
    chunk: int = 1
    """Tokens of an inner chunk of ragged rows; every row begins at a whole number of them."""

    @property
    def ragged(self) -> bool:
        """Whether rows lie in one flat array, each at its offset."""
        return None in self.row_shape

    @property
    def fold(self) -> int:
        """Elements of the flat array that a token takes: 3 for `(3, None, C)`."""
        before = self.row_shape[: self.row_shape.index(None)] if self.ragged else ()
        return math.prod(size for size in before if size is not None)

    @property
    def element_shape(self) -> tuple[int, ...]:
        """Shape of what the first axis of the Zarr array counts: a row, or of ragged rows what a token takes."""
        after = self.row_shape[self.row_shape.index(None) + 1 :] if self.ragged else self.row_shape
        return tuple(size for size in after if size is not None)

    @property
    def element_bytes(self) -> int:
        """Bytes of that."""
        return math.prod(self.element_shape) * ITEM_BYTES[self.data_type]

    @property
    def shard_tokens(self) -> int:
        """Offsets that a shard of ragged rows owns; most of them are never used, and take no room."""
        return self.rows_per_shard * -(-self.longest // self.chunk) * self.chunk

    def length(self, clips: int) -> int:
        """Length of the first axis in a store of so many clips."""
        return clips if not self.ragged else -(-clips // self.rows_per_shard) * self.shard_tokens * self.fold

    @property
    def grid(self) -> tuple[int, int]:
        """How much of the first axis a shard holds, and how much of it an inner chunk."""
        return (self.shard_tokens * self.fold, self.chunk) if self.ragged else (self.rows_per_shard, 1)

    def metadata(self, clips: int, attributes: dict[str, Any]) -> dict[str, Any]:
        """The array's `zarr.json` in a store of so many clips."""
        return array_metadata(self.length(clips), self.element_shape, self.data_type, *self.grid, attributes)


ITEM_BYTES = {"int8": 1, "float16": 2, "uint16": 2, "int32": 4, "float32": 4, "int64": 8, "float64": 8}
"""Bytes of an element of each data type that avem writes."""


def stream_arrays(spec: StreamSpec) -> dict[str, ArraySpec]:
    """Arrays of a stream by name."""

    def array(row_shape: RowShape, dtype: str) -> ArraySpec:
        return ArraySpec(row_shape, STORED_DTYPES.get(dtype, dtype), spec.rows_per_shard, spec.longest, spec.chunk or 1)

    arrays = {"features": array(spec.row_shape, spec.dtype), "pooled": array((spec.pooled_dim,), "float32")}
    if spec.dtype == "int8":
        arrays["scale"] = array(spec.row_shape[:-1], "float32")
        arrays["error"] = array((), "float32")
    if spec.ragged:
        arrays["offsets"] = array((2,), "int64")
    return arrays | {name: array(item.row_shape, item.dtype) for name, item in spec.companions.items()}


def shard_path(array: Path, index: int, axes: int) -> Path:
    """File of shard number `index` of an array with `axes` axes, all but the first in one chunk."""
    return array / ".".join(["c", str(index), *["0"] * (axes - 1)])


def array_metadata(
    length: int,
    element_shape: tuple[int, ...],
    data_type: str,
    per_shard: int,
    inner: int,
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """Zarr v3 metadata of an array whose shards hold uncompressed chunks, each followed by its CRC-32C.

    Args:
        length: Of the first axis.
        element_shape: The other axes.
        data_type: Zarr's name of it.
        per_shard: Of the first axis, how much a shard holds.
        inner: Of the first axis, how much a chunk holds; 1 where a chunk is a row.
        attributes: Kept beside.
    """
    crc = {"name": "crc32c"}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    codec = {"name": "bytes"} if data_type == "int8" else little
    sharding = {
        "chunk_shape": [inner, *element_shape],
        "codecs": [codec, crc],
        "index_codecs": [little, crc],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [length, *element_shape],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [per_shard, *element_shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0 if data_type.startswith("float") else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": attributes,
        "storage_transformers": [],
    }


def is_byte_ranges(metadata: dict[str, Any]) -> bool:
    """Whether an array's Zarr metadata describes shards of whole uncompressed chunks, as avem writes them."""
    try:
        length, *element_shape = metadata["shape"]
        slots = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        inner = metadata["codecs"][0]["configuration"]["chunk_shape"][0]
        ours = array_metadata(length, tuple(element_shape), metadata["data_type"], slots, inner, {})
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return False
    parts = ("chunk_grid", "chunk_key_encoding", "codecs")
    return all(metadata.get(part) == ours[part] for part in parts)


def own_forms(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """The forms in which avem itself writes an array of this length and shape in its stream.

    Raises:
        KeyError: The metadata is no array's.
        StoreError: It does not describe a stream.
    """
    spec = spec_from_metadata(metadata, "")
    length, *element_shape = metadata["shape"]
    return [
        array_metadata(length, tuple(element_shape), metadata["data_type"], *array.grid, metadata["attributes"])
        for array in stream_arrays(spec).values()
    ]


def spec_attributes(spec: StreamSpec) -> dict[str, Any]:
    """What each array of a stream says about itself; what is as in format 1 is said as there."""
    described: dict[str, Any] = {
        "kind": spec.kind,
        "encoder": spec.encoder,
        "dtype": spec.dtype,
        "fingerprint": spec.fingerprint,
        "row_shape": list(spec.row_shape),
        "pooled_dim": spec.pooled_dim,
        "rows_per_shard": spec.rows_per_shard,
    }
    if spec.modality != default_modality(spec.kind):
        described["modality"] = spec.modality
    if spec.companions:
        described["companions"] = {
            name: {"row_shape": list(item.row_shape), "dtype": item.dtype} for name, item in spec.companions.items()
        }
    if spec.ragged:
        described |= {"longest": spec.longest, "chunk": spec.chunk}
    return {"avem": described}


def spec_from_metadata(metadata: dict[str, Any], where: str) -> StreamSpec:
    """The stream that an array's metadata describes.

    Raises:
        StoreError: The attributes are missing or wrong.
    """
    try:
        fields = dict(metadata["attributes"]["avem"])
        fields["row_shape"] = tuple(fields["row_shape"])
        fields["companions"] = {
            name: Companion(tuple(item["row_shape"]), item["dtype"])
            for name, item in fields.get("companions", {}).items()
        }
        return StreamSpec(**fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{where} does not describe its stream ({error}); the store is damaged there.") from error
