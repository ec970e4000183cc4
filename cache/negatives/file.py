"""Mined negatives on disk: an ordinary Zarr array whose attributes keep a checksum of its data.

Without it a missing or a damaged chunk would be read as other row numbers: Zarr gives the fill value for the one and
has no check for the other.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr

from avem.cache.disk.layout import LEDGER, METADATA, group_metadata, parse_metadata, read_metadata, write_metadata
from avem.cache.disk.location import Location
from avem.cache.disk.locks import store_lock
from avem.cache.disk.sweep import sweep
from avem.errors import MissingFileError, StoreError
from avem.files import sync_directory
from avem.swap import exchange

FOLDER = "negatives"
DATA_CHECK = "avem_data_crc32c"
"""Attribute with the CRC-32C of all rows, int32 little endian in C order, eight hexadecimal digits."""
BLOCK_CHECKS = "avem_block_crc32c"
"""Attribute with the CRC-32C of each block of `ROWS_PER_CHUNK` rows, in the same form."""
ROWS_PER_CHUNK = 65_536
"""Rows of a chunk of the array, which are read and checked together."""

Mined = tuple[npt.NDArray[np.int32], dict[str, Any]]
"""Negatives int32 [clips, K], row numbers or -1, and what made them."""


def read_negatives(location: Location, recipe: str, modality: str) -> npt.NDArray[np.int32]:
    """Negatives of a store, int32 [clips, K], compared with their checksums; older ones have none.

    Raises:
        StoreError: They are not mined, or are damaged.
    """
    blocks = [block for _, block in negative_blocks(location, recipe, modality)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def negative_blocks(location: Location, recipe: str, modality: str) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """The same, block by block: number of the first row, and int32 [rows, K]. Each block is checked before it comes.

    Arrays from before blocks had checksums have one over all rows, which is compared after the last block.

    Raises:
        StoreError: They are not mined, or are damaged.
    """
    name = f"{_folder(location, recipe)}/{modality}"
    attributes = negatives_metadata(location, recipe, modality)["attributes"]
    where, again = f"{location.url}/{name}", f"mine them again with `avem cache negatives --recipe {recipe}`"
    checks = attributes.get(BLOCK_CHECKS)
    checksum = 0
    try:
        array = location.zarr_array(name)
    except MissingFileError as error:
        raise StoreError(f"{location.url} has no {recipe} negatives for {modality}; {again}.") from error
    if array.ndim != 2:
        raise StoreError(f"The {recipe} negatives in {where} have {array.ndim} axes, not 2; {again}.")
    for number, start in enumerate(range(0, max(1, array.shape[0]), ROWS_PER_CHUNK)):
        try:
            block = np.ascontiguousarray(array[start : start + ROWS_PER_CHUNK], dtype="<i4")
            sound = checks is None or checks[number] == _checksum(block)
        except Exception as error:  # every codec has errors of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreError(f"The {recipe} negatives in {where} are damaged ({reason}); {again}.") from error
        if not sound:
            rows = f"rows {start} to {start + len(block) - 1}"
            raise StoreError(f"The {recipe} negatives in {where} do not match their checksum in {rows}; {again}.")
        checksum = int(google_crc32c.extend(checksum, block.reshape(-1).view(np.uint8)))
        yield start, block.astype(np.int32, copy=False)
    if attributes.get(DATA_CHECK, f"{checksum:08x}") != f"{checksum:08x}":
        raise StoreError(f"The {recipe} negatives in {where} do not match their checksum; {again}.")


def negatives_metadata(location: Location, recipe: str, modality: str) -> dict[str, Any]:
    """The `zarr.json` of mined negatives; its `attributes` are an object.

    Raises:
        StoreError: They are not mined, or it is damaged.
    """
    name = f"{_folder(location, recipe)}/{modality}"
    data = location.read(f"{name}/{METADATA}")
    again = f"mine them again with `avem cache negatives --recipe {recipe}`"
    if data is None:
        raise StoreError(f"{location.url} has no {recipe} negatives for {modality}; {again}.")
    try:
        metadata = parse_metadata(data, f"{location.url}/{name}")
    except StoreError as error:
        raise StoreError(f"{location.url}/{name}/{METADATA} is damaged; {again}.") from error
    if not isinstance(metadata.get("attributes"), dict):
        raise StoreError(f"{location.url}/{name}/{METADATA} does not say how the negatives were mined; {again}.")
    return metadata


def save_negatives(store: Path, recipe: str, mined: Mapping[str, Mined]) -> None:
    """Keep negatives of one recipe in a store's folder: all modalities at once, or none.

    Args:
        store: The store's folder.
        recipe: Their name.
        mined: Modality (`audio`, `video`, `audiovisual`) to its negatives and what made them; what is there of other
            modalities stays.

    Raises:
        OSError: The disk can't be written.
    """
    with store_lock(store / LEDGER, exclusive=True):
        sweep(store)
        folder, final = store / FOLDER, store / FOLDER / recipe
        if not (folder / METADATA).is_file():
            write_metadata(folder, group_metadata({}))
        mark = uuid.uuid4().hex[:8]
        fresh, old = folder / f".{recipe}.{mark}.tmp", folder / f".{recipe}.{mark}.old"
        try:
            _write_group(fresh, mined)
            for other in sorted(final.iterdir()) if final.is_dir() else []:
                if other.is_dir() and not (fresh / other.name).exists():
                    shutil.copytree(other, fresh / other.name)
            _sync(fresh)
            if not final.exists():
                fresh.rename(final)
            elif not exchange(fresh, final):
                final.rename(old)  # from here to the next line readers take the old one, see `_folder`
                fresh.rename(final)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if final.exists():
                shutil.rmtree(old, ignore_errors=True)
        sync_directory(folder)


def _write_group(folder: Path, mined: Mapping[str, Mined]) -> None:
    """Write the arrays of one recipe."""
    folder.mkdir()
    write_metadata(folder, group_metadata({}))
    for modality, (negatives, attributes) in mined.items():
        rows = np.ascontiguousarray(negatives, dtype="<i4")
        zarr.create_array(
            folder / modality,
            data=rows,
            chunks=(min(len(rows), ROWS_PER_CHUNK) or 1, rows.shape[1]),
            attributes={"avem": attributes, DATA_CHECK: _checksum(rows), BLOCK_CHECKS: _block_checksums(rows)},
            fill_value=-1,
            config={"write_empty_chunks": True},
        )
        write_metadata(folder / modality, read_metadata(folder / modality))


def _sync(folder: Path) -> None:
    """Make every file below a folder durable."""
    for path in [item for item in folder.rglob("*") if item.is_file()]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _folder(location: Location, recipe: str) -> str:
    """Path of a recipe in a store; that of the old one where a killed writer was about to put the new one there."""
    path = f"{FOLDER}/{recipe}"
    if location.exists(path):
        return path
    old = [name for name in location.names(FOLDER) if re.fullmatch(rf"\.{re.escape(recipe)}\.[0-9a-f]{{8}}\.old", name)]
    return f"{FOLDER}/{old[0]}" if old else path


def _block_checksums(rows: npt.NDArray[np.int32]) -> list[str]:
    starts = range(0, max(1, len(rows)), ROWS_PER_CHUNK)
    return [_checksum(rows[start : start + ROWS_PER_CHUNK]) for start in starts]


def _checksum(rows: npt.NDArray[np.int32]) -> str:
    return f"{google_crc32c.value(rows.reshape(-1).view(np.uint8)):08x}"
