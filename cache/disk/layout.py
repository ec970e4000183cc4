"""Where things are in a store, and the Zarr v3 metadata that says so to every Zarr library.

The format is written down in `docs/store.md`. Metadata is plain JSON and is written here rather than through a Zarr
library so that every change of it is one atomic, durable rename.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avem.cache.records import Kind, StreamSpec
from avem.errors import DataError, StoreError
from avem.files import write_atomic
from avem.reading import advise, parse_json, read_regular
from avem.sealed.checksums import CHECK, has_nearly, seal

FORMAT_VERSION = 1
"""Raised when an older avem could no longer read a store; readers refuse newer ones."""

METADATA = "zarr.json"
MANIFEST = "clips.parquet"
LEDGER = "ledger"
ROOT_COPY = f"{LEDGER}/root.json"
"""Copy of the root's metadata, under a name that makes the ledger no group of Zarr's."""

FEW_BYTES = 16
"""Differences from avem's own metadata up to which it is damaged rather than another tool's."""
CHECK_ATTRIBUTE = "avem_check"
"""Attribute that keeps the checksums of a `zarr.json`: `core` of what stays when another tool rewrites an array
compressed or with other chunks, `all` of everything."""

STORED_DTYPES = {"float16": "float16", "bfloat16": "uint16", "int8": "int8"}
"""Zarr data type of each feature dtype: bfloat16 has none in the core specification and is kept as its bits."""


def stream_group(kind: Kind, encoder: str) -> str:
    """Path of a stream's group inside the store."""
    return f"{kind}/{encoder}"


def stream_arrays(spec: StreamSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Arrays of a stream: name to shape of one row and Zarr data type."""
    arrays = {
        "features": (spec.row_shape, STORED_DTYPES[spec.dtype]),
        "pooled": ((spec.pooled_dim,), "float32"),
    }
    if spec.dtype == "int8":
        arrays["scale"] = (spec.row_shape[:-1], "float32")
        arrays["error"] = ((), "float32")
    return arrays


def shard_path(array: Path, index: int, axes: int) -> Path:
    """File of shard number `index` of an array with `axes` axes, all but the first in one chunk."""
    return array / ".".join(["c", str(index), *["0"] * (axes - 1)])


def array_metadata(
    rows: int, row_shape: tuple[int, ...], data_type: str, rows_per_shard: int, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Zarr v3 metadata of an array whose shards hold uncompressed rows, each followed by its CRC-32C."""
    crc = {"name": "crc32c"}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = {"name": "bytes"} if data_type == "int8" else little
    sharding = {
        "chunk_shape": [1, *row_shape],
        "codecs": [inner, crc],
        "index_codecs": [little, crc],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [rows, *row_shape],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [rows_per_shard, *row_shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0 if data_type.startswith("float") else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": attributes,
        "storage_transformers": [],
    }


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """Zarr v3 metadata of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def write_metadata(node: Path, metadata: dict[str, Any]) -> None:
    """Write a group's or an array's `zarr.json` with its checksums, atomically."""
    write_atomic(node / METADATA, _sealed(metadata))


def write_root(store: Path, metadata: dict[str, Any]) -> None:
    """Write the root's `zarr.json`, and then its copy in the ledger."""
    write_metadata(store, metadata)
    write_atomic(store / ROOT_COPY, _sealed(metadata))


def _sealed(metadata: dict[str, Any]) -> str:
    """The text of a `zarr.json` with its checksums."""
    attributes = {name: value for name, value in metadata["attributes"].items() if name != CHECK_ATTRIBUTE}
    bare = {**metadata, "attributes": attributes}
    sealed = {**bare, "attributes": {**attributes, CHECK_ATTRIBUTE: _checks(bare)}}
    return json.dumps(sealed, indent=2) + "\n"


def read_metadata(node: Path) -> dict[str, Any]:
    """Read a group's or an array's `zarr.json`.

    Raises:
        StoreError: It is missing, is not JSON, or does not match its checksum.
    """
    try:
        data = read_regular(node / METADATA)
    except OSError as error:
        raise StoreError(f"{node / METADATA} can't be read ({error.strerror}); {RECOVER}.") from error
    return parse_metadata(data, str(node))


def parse_metadata(data: bytes, where: str) -> dict[str, Any]:
    """Parse a `zarr.json` that was read from anywhere.

    Raises:
        StoreError: It is not a JSON object, or does not match its checksum.
    """
    try:
        metadata: dict[str, Any] = parse_json(data, f"{where}/{METADATA}", dict, surrogates=True)
    except DataError as error:
        raise StoreError(advise(error, RECOVER)) from error
    if not _matches(metadata, "core"):
        refuse_newer(metadata, where)
        raise StoreError(f"{where}/{METADATA} does not match its checksum; {RECOVER}.")
    return metadata


RECOVER = "`avem cache verify` says what else is damaged, and `avem cache repair` writes it again where it can"


def is_as_written(metadata: dict[str, Any]) -> bool:
    """Whether all of a `zarr.json` is what avem wrote; true for one from before there were checksums."""
    return _matches(metadata, "all")


def is_byte_ranges(metadata: dict[str, Any]) -> bool:
    """Whether an array's Zarr metadata describes shards of whole uncompressed rows, as avem writes them."""
    try:
        rows, *row_shape = metadata["shape"]
        slots = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        ours = array_metadata(rows, tuple(row_shape), metadata["data_type"], slots, {})
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return False
    parts = ("chunk_grid", "chunk_key_encoding", "codecs")
    return all(metadata.get(part) == ours[part] for part in parts)


def is_rewritten(metadata: dict[str, Any], data: bytes) -> bool:
    """Whether another tool keeps an array in a form of its own, such as compressed.

    What differs from avem's own text in a few bytes alone is damage, and no other form.

    Args:
        metadata: Of an array, whose `core` matches its checksum.
        data: The `zarr.json` that it was parsed from.
    """
    if metadata.get("node_type") != "array" or is_byte_ranges(metadata):
        return False
    try:
        rows, *row_shape = metadata["shape"]
        slots = metadata["attributes"]["avem"]["rows_per_shard"]
        attributes = metadata["attributes"]
        ours = _sealed(array_metadata(rows, tuple(row_shape), metadata["data_type"], slots, attributes)).encode()
    except (KeyError, TypeError):
        return False
    return len(ours) != len(data) or sum(a != b for a, b in zip(ours, data, strict=True)) > FEW_BYTES


def _matches(metadata: dict[str, Any], part: str) -> bool:
    attributes = metadata.get("attributes")
    if not isinstance(attributes, dict):
        return True  # no checksum to compare, and not a node that avem wrote
    if CHECK_ATTRIBUTE not in attributes:
        return not has_nearly(attributes, CHECK_ATTRIBUTE)
    kept = attributes[CHECK_ATTRIBUTE]
    others = {name: value for name, value in attributes.items() if name != CHECK_ATTRIBUTE}
    return isinstance(kept, dict) and kept.get(part) == _checks({**metadata, "attributes": others})[part]


def _checks(metadata: dict[str, Any]) -> dict[str, str]:
    """The checksums of a `zarr.json` without them."""
    ours = {name: value for name, value in metadata["attributes"].items() if name.startswith("avem")}
    core = {"shape": metadata.get("shape"), "data_type": metadata.get("data_type"), "attributes": ours}
    return {"core": seal(core)[CHECK], "all": seal({"metadata": metadata})[CHECK]}


def store_attributes(metadata: dict[str, Any], where: str) -> dict[str, Any]:
    """The `avem` attributes of a store's root group.

    Args:
        metadata: Content of the root's `zarr.json`.
        where: The store, for messages.

    Raises:
        StoreError: It is not a feature store, or one of a newer format.
    """
    holder = metadata.get("attributes")
    attributes = holder.get("avem") if isinstance(holder, dict) else None
    if not isinstance(attributes, dict) or not isinstance(attributes.get("format_version"), int):
        raise StoreError(f"{where} holds Zarr data that is not a feature store; give another folder.")
    refuse_newer(metadata, where)
    return attributes


def refuse_newer(metadata: dict[str, Any], where: str) -> None:
    """Refuse a store of a newer format, whose checksums may be others.

    Raises:
        StoreError: The metadata is that of the root of one.
    """
    attributes = metadata.get("attributes")
    ours = attributes.get("avem") if isinstance(attributes, dict) else None
    version = ours.get("format_version") if isinstance(ours, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreError(
            f"{where} is a feature store of format {version} and this avem reads up to format {FORMAT_VERSION}; "
            "install a newer avem."
        )


def spec_attributes(spec: StreamSpec) -> dict[str, Any]:
    """What each array of a stream says about itself."""
    return {
        "avem": {
            "kind": spec.kind,
            "encoder": spec.encoder,
            "dtype": spec.dtype,
            "fingerprint": spec.fingerprint,
            "row_shape": list(spec.row_shape),
            "pooled_dim": spec.pooled_dim,
            "rows_per_shard": spec.rows_per_shard,
        }
    }


def spec_from_metadata(metadata: dict[str, Any], where: str) -> StreamSpec:
    """The stream that an array's metadata describes.

    Raises:
        StoreError: The attributes are missing or wrong.
    """
    try:
        fields = dict(metadata["attributes"]["avem"])
        fields["row_shape"] = tuple(fields["row_shape"])
        return StreamSpec(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{where} does not describe its stream ({error}); the store is damaged there.") from error
