"""What a writer checks before it makes a store or enters clips: foreign folders, replaced files, new clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from avem.cache.disk import layout
from avem.cache.manifest.columns import LEARNED_COLUMNS, column_type, is_stream_column, record_cells
from avem.cache.manifest.view import ManifestView
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


@dataclass(frozen=True, slots=True)
class Entering:
    """Clips that are to be entered, by what a store has of them."""

    known: Mapping[str, Known]
    replaced: Mapping[int, ClipRecord]
    """Rows of files that failed and were replaced since, ascending."""
    fresh: Sequence[ClipRecord]


def entering(manifest: ManifestView, records: Sequence[ClipRecord], where: Path) -> Entering:
    """What entering clips would change; a run that only asks checks them with it.

    Args:
        manifest: The store's, with the ledger folded in.
        records: The clips.
        where: The store, for messages.

    Raises:
        StoreError: See `fresh_clips`.
    """
    known = known_clips(manifest, [record.clip_id for record in records])
    replaced = dict(sorted(replaced_clips(records, known).items()))
    now = {record.clip_id: record.sha256 for record in replaced.values()}
    digests = {name: now.get(name, clip.sha256) for name, clip in known.items()}
    return Entering(known, replaced, fresh_clips(records, digests, where))


@dataclass(frozen=True, slots=True)
class Known:
    """A clip that a store holds."""

    row: int
    sha256: str
    failed: bool
    """Whether no stream of it has features and some stream failed."""


def known_clips(manifest: ManifestView, clip_ids: Sequence[str]) -> dict[str, Known]:
    """Those of some clips that a store holds, by id.

    Args:
        manifest: The store's, with the ledger folded in.
        clip_ids: The ids.
    """
    rows = manifest.find(clip_ids)
    there = np.flatnonzero(rows >= 0)
    if not len(there):
        return {}
    names = [name for name in manifest.names if name.endswith("_status")]
    cells = manifest.take(rows[there], ["sha256", *names])
    statuses = zip(*(cells[name].to_pylist() for name in names), strict=True)
    found = zip(there.tolist(), cells["sha256"].to_pylist(), statuses, strict=True)
    return {clip_ids[at]: Known(int(rows[at]), digest, _is_failed(mine)) for at, digest, mine in found}


def _is_failed(statuses: Sequence[str | None]) -> bool:
    return OK not in statuses and any((status or PENDING).startswith(FAILED) for status in statuses)


def replaced_clips(records: Sequence[ClipRecord], known: Mapping[str, Known]) -> dict[int, ClipRecord]:
    """Rows of files that failed and were replaced since, and what is there now."""
    found = {}
    for record in records:
        there = known.get(record.clip_id)
        if there is not None and there.failed and there.sha256 != record.sha256:
            found[there.row] = record
    return found


def replaced_cells(rows: Mapping[int, ClipRecord], names: Sequence[str]) -> dict[str, pa.Array]:
    """New cells of replaced files: their content, nothing of them extracted.

    Args:
        rows: Row to the file's record, ascending.
        names: The manifest's columns.
    """
    records = list(rows.values())
    cells: dict[str, pa.Array] = {}
    for name in names:
        if name.endswith("_status"):
            cells[name] = pa.array([PENDING] * len(records), pa.string())
        elif name in LEARNED_COLUMNS or is_stream_column(name):
            cells[name] = pa.nulls(len(records), column_type(name))
        elif name in ("sha256", "size_bytes", "modified_ns", "path", "audio_path", "start_s", "end_s"):
            cells[name] = pa.array(record_cells(records, name), column_type(name))
    return cells


def fresh_clips(records: Sequence[ClipRecord], known: Mapping[str, str], where: Path) -> list[ClipRecord]:
    """The records that are new, each once.

    Args:
        records: The records.
        known: Digests of the clips that the store holds, by id.
        where: The store, for messages.

    Raises:
        StoreError: A clip has another content than the store's, or than an earlier record of it.
    """
    digests, fresh = dict(known), []
    for record in records:
        there = digests.setdefault(record.clip_id, record.sha256)
        if there != record.sha256:
            raise StoreError(
                f"The clip {record.clip_id} ({record.path}) is in {where} with another content "
                f"(sha256 {there[:12]}, now {record.sha256[:12]}). If this is another dataset called {record.dataset}, "
                "give it a name of its own with --name; if the file has changed, extract it into a new store."
            )
        if record.clip_id not in known:
            fresh.append(record)
    return list({record.clip_id: record for record in reversed(fresh)}.values())[::-1]
