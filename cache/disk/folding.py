"""Folding the ledger: many shard records become cells of the manifest, so that there are never many records.

A writer that commits a shard folds the ledger if there are many records and no other writer is folding. The records
move to the history once the manifest has them on disk. Entering one again changes nothing, so a fold that is killed
loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from avem.cache.disk import ledger
from avem.cache.disk.layout import LEDGER, MANIFEST
from avem.cache.disk.location import Location
from avem.cache.disk.locks import store_lock
from avem.cache.disk.loose import updates_of
from avem.cache.manifest.edit import Folded, ManifestEditor
from avem.cache.manifest.parts import RESTORE
from avem.errors import StoreError
from avem.systems import lock_file

MOST_RECORDS = 256
"""Records of a stream from which on they are folded."""
MOST_BYTES = 2**22
"""Bytes of records of a stream from which on they are folded: shards of many small rows have large records."""
BATCH = 1024
"""Records that are folded in one step."""


def fold_ledger(store: Path) -> None:
    """Fold every record; the store is held exclusively.

    Args:
        store: The store's folder.

    Raises:
        StoreError: A record or the manifest is damaged.
        OSError: The disk can't be written.
    """
    location = Location.parse(store)
    names = ledger.record_names(location)
    for start in range(0, len(names), BATCH):
        records = list(ledger.iterate_records(location, names[start : start + BATCH]))
        editor = ManifestEditor(store)
        beyond = max((row for record in records for row in record.rows), default=-1)
        if beyond >= len(editor):
            raise StoreError(
                f"The manifest {store / MANIFEST} names {len(editor)} clips and the ledger has features of row "
                f"{beyond}; {RESTORE}."
            )
        editor.change(Folded(updates_of(records)))
        editor.write()
        ledger.retire(store / LEDGER, records)


def fold_when_many(store: Path, stream: str) -> bool:
    """Fold if a stream has many records and nobody else is folding; whether it did.

    Call it without holding the store.

    Args:
        store: The store's folder.
        stream: The stream that a record was added to: its folder in the ledger.

    Raises:
        StoreError: A record or the manifest is damaged.
        OSError: The disk can't be written.
    """
    if not are_many(store / LEDGER / stream):
        return False
    handle = os.open(store / LEDGER / "fold.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock_file(handle, exclusive=True, wait=False)
        with store_lock(store / LEDGER, exclusive=True):
            if are_many(store / LEDGER / stream):  # not folded while this writer waited
                fold_ledger(store)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def are_many(folder: Path) -> bool:
    """Whether a stream's folder in the ledger has so many records that they are folded."""
    sizes = list(_sizes(folder))
    return len(sizes) > MOST_RECORDS or sum(sizes) > MOST_BYTES


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of each record of a folder, as far as nobody removes it meanwhile."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                with suppress(FileNotFoundError):
                    yield entry.stat().st_size
