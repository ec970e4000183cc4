"""Mined negatives on disk: an ordinary Zarr array whose attributes keep a checksum of its data.

A chunk that is missing, or that is compressed wrongly, would otherwise be read as other row numbers: Zarr gives the fill
value for the one and has no check for the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr

from avem.cache.layout import METADATA, group_metadata, parse_metadata, read_metadata, write_metadata
from avem.cache.location import Location
from avem.errors import MissingFileError, StoreError
from avem.files import replace_directory

FOLDER = "negatives"
DATA_CHECK = "avem_data_crc32c"
"""Attribute with the CRC-32C of all rows, int32 little endian in C order, eight hexadecimal digits."""
ROWS_PER_CHUNK = 65_536


def read_negatives(location: Location, recipe: str, modality: str) -> npt.NDArray[np.int32]:
    """Negatives of a store, int32 [clips, K], compared with their checksum; older ones have none.

    Raises:
        StoreError: They are not mined, or are damaged.
    """
    name = f"{FOLDER}/{recipe}/{modality}"
    metadata = negatives_metadata(location, recipe, modality)
    again = f"mine them again with `avem cache negatives --recipe {recipe}`"
    try:
        found = np.ascontiguousarray(location.zarr_array(name)[:], dtype="<i4")
    except MissingFileError as error:
        raise StoreError(f"{location.url} has no {recipe} negatives for {modality}; {again}.") from error
    except Exception as error:  # every codec has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"The {recipe} negatives in {location.url}/{name} are damaged ({reason}); {again}.") from error
    kept = metadata["attributes"].get(DATA_CHECK)
    if kept is not None and kept != _checksum(found):
        raise StoreError(f"The {recipe} negatives in {location.url}/{name} do not match their checksum; {again}.")
    if found.ndim != 2:
        raise StoreError(f"The {recipe} negatives in {location.url}/{name} have {found.ndim} axes, not 2; {again}.")
    return found.astype(np.int32, copy=False)


def negatives_metadata(location: Location, recipe: str, modality: str) -> dict[str, Any]:
    """The `zarr.json` of mined negatives; its `attributes` are an object.

    Raises:
        StoreError: They are not mined, or it is damaged.
    """
    name = f"{FOLDER}/{recipe}/{modality}"
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


def save_negatives(
    store: Path, recipe: str, modality: str, negatives: npt.NDArray[np.int32], attributes: dict[str, Any]
) -> None:
    """Keep negatives in a store's folder, whole or not at all.

    Args:
        store: The store's folder.
        recipe: Their name.
        modality: `audio`, `video` or `audiovisual`.
        negatives: int32 [clips, K], row numbers or -1.
        attributes: What made them.

    Raises:
        OSError: The disk can't be written.
    """
    folder = store / FOLDER
    kept = np.ascontiguousarray(negatives, dtype="<i4")

    def fill(directory: Path) -> None:
        zarr.create_array(
            directory,
            data=kept,
            chunks=(min(len(kept), ROWS_PER_CHUNK) or 1, kept.shape[1]),
            attributes={"avem": attributes, DATA_CHECK: _checksum(kept)},
            fill_value=-1,
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        write_metadata(directory, read_metadata(directory))

    for group in (folder, folder / recipe):
        if not (group / METADATA).is_file():
            write_metadata(group, group_metadata({}))
    replace_directory(folder / recipe / modality, fill)


def _checksum(rows: npt.NDArray[np.int32]) -> str:
    return f"{google_crc32c.value(rows.tobytes()):08x}"
