"""Removing what killed writers left: names that begin with a dot and end in `.tmp`, in folders that avem writes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.locks import ShardLocks
from avem.errors import StoreError

FOLDER, SCORES = "negatives", "logprobs"
LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<end>tmp|old)")
"""How avem names what is not complete yet, or about to be removed: `.clips.parquet.1a2b3c4d.tmp`."""


def sweep(store: Path) -> None:
    """Remove leftovers from a store, and finish what a killed writer had begun to replace.

    The store is held exclusively, and everything but shards is written only under that lock: what is left then has no
    owner. A shard's leftover goes if nobody owns the shard.

    Args:
        store: The store's folder.
    """
    entries = _entries(store)
    slots = sorted({entry.name.partition("/")[0] for entry in entries})
    folders = [store, store / layout.LEDGER, store / FOLDER]
    folders += [store / layout.LEDGER / entry.column for entry in entries]
    folders += [store / slot for slot in slots]
    folders += [folder for name in (*slots, FOLDER) for folder in _folders(store / name)]
    folders += list(_folders(store / SCORES))
    for folder in folders:
        for path, name, end in _leftovers(folder):
            if end == "old" and not (folder / name).exists():
                path.rename(folder / name)
            else:
                _remove(path)
    for entry in entries:
        for array in _folders(store / entry.name):
            _sweep_array(store, entry.column, array)


def _entries(store: Path) -> list[layout.StreamEntry]:
    """The store's streams; none where its root is not written yet, or is damaged."""
    try:
        attributes = layout.store_attributes(layout.read_metadata(store), str(store))
    except StoreError:
        return []
    return list(layout.stream_entries(attributes).values())


def _sweep_array(store: Path, column: str, array: Path) -> None:
    """Remove an array's leftovers whose shard nobody writes."""
    found = list(_leftovers(array))
    if not found:
        return
    locks = ShardLocks(store / layout.LEDGER / f"{column}.lock")
    try:
        for path, name, _ in found:
            number = name.removeprefix("c.").partition(".")[0]
            if name == layout.METADATA:
                _remove(path)
            elif number.isdigit() and locks.take(int(number)):
                _remove(path)
                locks.release(int(number))
    finally:
        locks.close()


def _folders(parent: Path) -> Iterator[Path]:
    if parent.is_dir():
        yield from sorted(item for item in parent.iterdir() if item.is_dir() and not item.name.startswith("."))


def _leftovers(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Leftovers of a folder: path, the name that it was for, and its ending."""
    for path in sorted(folder.glob(".*.*")) if folder.is_dir() else []:
        match = LEFTOVER.fullmatch(path.name)
        if match is not None:
            yield path, match["name"], match["end"]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
