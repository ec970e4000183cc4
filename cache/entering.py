"""What a writer checks before it makes a store or enters clips: foreign folders, replaced files, new clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.manifest import LEARNED_COLUMNS, Columns
from avem.cache.records import FAILED, OK, PENDING, ClipRecord
from avem.errors import StoreError


def refuse_foreign(path: Path) -> None:
    """Refuse to make a store among other things: a store's folder is new or empty."""
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file; give a folder for the feature store.")
    others = sorted(item.name for item in path.iterdir() if not item.name.startswith(f".{layout.METADATA}."))
    if others == [layout.LEDGER] and _is_begun(path / layout.LEDGER):
        return  # a writer that was killed before it could make the store, or one that is about to
    if others:
        raise StoreError(f"{path} holds {others[0]!r} and is not a feature store; give a new or an empty folder.")


def _is_begun(ledger: Path) -> bool:
    """Whether a folder holds no more than a store that is about to be made."""
    root_copy = Path(layout.ROOT_COPY).name
    return ledger.is_dir() and all(
        item.name in ("lock", root_copy) or item.name.startswith(f".{root_copy}.") for item in ledger.iterdir()
    )


def enter_replaced(records: Sequence[ClipRecord], known: dict[str, int], columns: Columns) -> bool:
    """Enter the new content of files that failed and were replaced since; whether there were any."""
    replaced = False
    for record in records:
        row = known.get(record.clip_id)
        if row is None or columns["sha256"][row] == record.sha256:
            continue
        streams = [name for name in columns if name.endswith("_status")]
        statuses = [columns[name][row] or PENDING for name in streams]
        if OK not in statuses and any(status.startswith(FAILED) for status in statuses):
            for name in ("sha256", "size_bytes", "modified_ns", "path", "audio_path", "start_s", "end_s"):
                columns[name][row] = getattr(record, name)
            for name in LEARNED_COLUMNS:
                columns[name][row] = None
            for name in streams:
                columns[name][row] = PENDING
            replaced = True
    return replaced


def fresh_clips(
    records: Sequence[ClipRecord], known: dict[str, int], hashes: Sequence[str], where: Path
) -> list[ClipRecord]:
    """The records that are new, entered into `known` with the rows they will have."""
    digests = {clip_id: hashes[row] for clip_id, row in known.items()} if records else {}
    fresh = []
    for record in records:
        there = digests.get(record.clip_id)
        if there is None:
            known[record.clip_id] = len(known)
            digests[record.clip_id] = record.sha256
            fresh.append(record)
        elif there != record.sha256:
            raise StoreError(
                f"The clip {record.clip_id} ({record.path}) is in {where} with another content "
                f"(sha256 {there[:12]}, now {record.sha256[:12]}); extract the changed file into a new store."
            )
    return fresh
