"""Where things are in a store, and the Zarr v3 metadata that says so to every Zarr library.

The format is written down in `docs/store.md`. Metadata is plain JSON and is written here rather than through a Zarr
library so that every change of it is one atomic, durable rename.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.cache.disk.arrays import is_byte_ranges, own_forms
from avem.cache.spec import StreamSpec
from avem.errors import DataError, StoreError
from avem.files import write_atomic
from avem.reading import advise, parse_json, read_regular
from avem.sealed.checksums import CHECK, has_nearly, seal

FORMAT_VERSION = 2
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


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """How the root knows a stream."""

    name: str
    """`slot/encoder`, which is also its group."""
    column: str
    """What the manifest's columns, the ledger's folder and the lock of the stream are called: its slot, or its name
    where another stream had the slot before."""


def stream_entries(attributes: Mapping[str, Any]) -> dict[str, StreamEntry]:
    """The streams that the root's `avem` attributes name, in order of creation; format 1 has one encoder a kind."""
    streams: Mapping[str, Any] = attributes.get("streams", {})
    if attributes.get("format_version", 1) < 2:
        return {f"{kind}/{encoder}": StreamEntry(f"{kind}/{encoder}", kind) for kind, encoder in streams.items()}
    return {name: StreamEntry(name, str(entry["column"])) for name, entry in streams.items()}


def enter_stream(attributes: dict[str, Any], spec: StreamSpec, where: str) -> None:
    """Add a stream to the root's `avem` attributes.

    Raises:
        StoreError: The store is of format 1, which can't hold such a stream.
    """
    if attributes["format_version"] >= 2:
        entry = {"column": free_column(attributes, spec)}
        attributes["streams"] = {**attributes.get("streams", {}), spec.name: entry}
        return
    old = spec.kind in FORMAT_1_KINDS and len(spec.row_shape) > 1 and not spec.ragged and not spec.companions
    if not old or spec.kind in attributes.get("streams", {}):
        raise StoreError(
            f"{where} is of format 1, which has room for one video and one audio stream of fixed shape and not for "
            f"{spec.name}; bring it to format {FORMAT_VERSION} with `avem cache upgrade`, and run this again."
        )
    attributes["streams"] = {**attributes.get("streams", {}), spec.kind: spec.encoder}


FORMAT_1_KINDS = ("video", "audio")


def free_column(attributes: Mapping[str, Any], spec: StreamSpec) -> str:
    """The column of a new stream: its slot, or its name where the slot is taken."""
    taken = {entry.column for entry in stream_entries(attributes).values()}
    return spec.name if spec.kind in taken else spec.kind


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
        ours = [_sealed(form).encode() for form in own_forms(metadata)]
    except (KeyError, TypeError):
        return False
    return bool(ours) and all(
        len(form) != len(data) or sum(a != b for a, b in zip(form, data, strict=True)) > FEW_BYTES for form in ours
    )


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
