"""Negatives whose labels were corrected since they were mined: each array keeps a digest of what it was mined from.

Negatives from before digests are trusted until labels change: the change enters the digest of the labels before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avem.cache.disk.layout import METADATA, read_metadata, write_metadata
from avem.cache.manifest.view import ManifestView
from avem.errors import StoreError

DIGEST = "labels_sha256"
"""Attribute of mined negatives with `labels_digest` of the manifest that they were mined from."""

LABEL_COLUMNS = ("dataset", "split", "source", "emotion")
"""Columns of the manifest that decide which clips can be each other's negatives."""


class StaleNegativesError(StoreError):
    """Negatives that were mined before labels, splits or sources changed."""


def labels_digest(clips: pa.Table | ManifestView | Mapping[str, Sequence[str | None]]) -> str:
    """SHA-256, in hexadecimal, of every clip's dataset, split, source and emotion, in the order of rows.

    Args:
        clips: A manifest, or its columns as lists; absent cells count as empty.
    """
    digest = hashlib.sha256()
    for name in LABEL_COLUMNS:
        if isinstance(clips, ManifestView):
            chunks: Iterable[pa.Array] = clips.coded(name)
        else:
            cells = clips[name]
            chunks = cells.chunks if isinstance(cells, pa.ChunkedArray) else [pa.array(cells, pa.string())]
        words: dict[str, int] = {}  # in the order in which they first occur
        numbers = [_numbered(chunk, words) for chunk in chunks]
        count = sum(map(len, numbers))
        digest.update(json.dumps([name, count, list(words)]).encode())
        for part in numbers:
            digest.update(part.data)
    return digest.hexdigest()


def _numbered(cells: pa.Array, words: dict[str, int]) -> npt.NDArray[np.int32]:
    """Cells as numbers of words, int32 little endian; new words are entered where they first occur."""
    coded = cells if pa.types.is_dictionary(cells.type) else cells.cast(pa.string()).dictionary_encode()
    texts = [word or "" for word in coded.dictionary.to_pylist()]
    texts.append("")  # what absent cells count as
    codes = pc.fill_null(coded.indices, len(texts) - 1).to_numpy(zero_copy_only=False)
    used, first = np.unique(codes, return_index=True)
    table = np.zeros(len(texts), dtype="<i4")
    for code in used[np.argsort(first)].tolist():
        table[code] = words.setdefault(texts[code], len(words))
    found: npt.NDArray[np.int32] = table[codes]
    return found


def is_stale(attributes: Mapping[str, Any], digest: str) -> bool:
    """Whether negatives with these attributes were mined from other labels than those of the digest."""
    return bool(attributes.get(DIGEST, digest) != digest)


def refuse_stale(attributes: Mapping[str, Any], clips: pa.Table | ManifestView, recipe: str, where: str) -> None:
    """Refuse negatives that were mined from other labels.

    Args:
        attributes: What the negatives' array says about itself.
        clips: The manifest.
        recipe: The negatives' name, for the message.
        where: The store, for the message.

    Raises:
        StaleNegativesError: Labels, splits or sources have changed since.
    """
    if DIGEST in attributes and is_stale(attributes, labels_digest(clips)):
        raise StaleNegativesError(
            f"The {recipe} negatives of {where} are stale: labels, splits or sources of its clips have changed since; "
            f"mine them again with `avem cache negatives --recipe {recipe}`."
        )


def date_negatives(store: Path, digest: str, clips: int) -> None:
    """Enter a digest into negatives that have none, before the labels that they were mined from are changed.

    Args:
        store: The store's folder.
        digest: `labels_digest` of the manifest before the change.
        clips: Clips in the manifest; negatives of fewer are out of date in any case.
    """
    for folder, metadata, attributes in _mined(store):
        if DIGEST not in attributes and metadata.get("shape", [0])[0] == clips:
            attributes[DIGEST] = digest
            write_metadata(folder, metadata)


def stale_recipes(store: Path, clips: pa.Table | ManifestView) -> list[str]:
    """Names of the recipes whose negatives were mined from other labels than the manifest's."""
    digest = labels_digest(clips)
    return sorted({folder.parent.name for folder, _, attributes in _mined(store) if is_stale(attributes, digest)})


def _mined(store: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Folder, metadata and avem's attributes of every array of negatives; hidden ones are being written."""
    for path in sorted((store / "negatives").glob(f"*/*/{METADATA}")):
        if path.parent.name.startswith(".") or path.parents[1].name.startswith("."):
            continue
        metadata = read_metadata(path.parent)
        attributes = metadata.get("attributes", {}).get("avem")
        if isinstance(attributes, dict):
            yield path.parent, metadata, attributes
