"""Mending a store: rows that `verify` finds damaged are extracted again from their source files, and only these."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from avem.cache.layout import LEDGER
from avem.cache.records import ClipRecord, DamagedRow, Kind
from avem.cache.store import FeatureStore
from avem.cache.writer import StoreWriter
from avem.extract.datasets import read_dataset
from avem.extract.options import ExtractOptions
from avem.extract.pipeline import extract
from avem.files import file_sha256, write_atomic
from avem.reading import read_json
from avem.records import Clip

BEGUN = "repair.json"
"""Ledger file that names the clips whose rows a repair has given up and not yet extracted again."""


@dataclass(slots=True)
class RepairReport:
    """What a repair did."""

    damaged: list[DamagedRow] = field(default_factory=list)
    """What `verify` found."""
    mended: list[str] = field(default_factory=list)
    """Clips whose rows were extracted again."""
    left: dict[str, str] = field(default_factory=dict)
    """Clips, or rows without one, that could not be mended, and why; nothing of them was changed."""


def repair(store_path: str | Path, options: ExtractOptions, root: str | Path | None = None) -> RepairReport:
    """Verify a store and extract its damaged rows again.

    An entry of the manifest that was edited or moved is entered anew from the dataset and extracted again as well. A
    repair that was killed is finished by the next one.

    Args:
        store_path: The store's folder.
        options: Encoders and how they run; they have to be those that made the store. Streams and the dtype are taken
            from the store.
        root: Where the source files are now; None: where they were at the extraction.

    Returns:
        What was found, what was mended, and what could not be.

    Raises:
        AvemError: The store can't be read at all, or an encoder or a dataset is not to be had.
    """
    path = Path(store_path).expanduser()
    store = FeatureStore.open(path)
    report = RepairReport(store.verify())
    roots = {name: Path(root or folder) for name, folder in store.roots.items()}
    begun = path / LEDGER / BEGUN
    work: dict[Kind, set[str]] = {kind: set() for kind in store.kinds}
    if begun.is_file():
        work |= {kind: set(clips) for kind, clips in read_json(begun, dict).items()}
    entries = _entries(store, report, roots, options.dataset)
    rows = _rows(store, report, roots)
    for kind, clips in work.items():
        clips |= {record.clip_id for record in entries.values()}
        clips |= {store.clips["clip_id"][row].as_py() for row in rows[kind]}
    if any(work.values()):
        write_atomic(begun, json.dumps({kind: sorted(clips) for kind, clips in work.items()}))
        writer = StoreWriter.open(path)
        if entries:
            writer.enter_again(entries)
        for kind, damaged in rows.items():
            writer.mark_pending(kind, damaged)
        for kind, clips in work.items():
            _extract_again(path, kind, clips, roots, options, report)
        begun.unlink()
    report.mended = sorted(set().union(*work.values()) - report.left.keys())
    return report


def _extract_again(
    path: Path, kind: Kind, clips: set[str], roots: dict[str, Path], options: ExtractOptions, report: RepairReport
) -> None:
    """Extract the pending rows of one stream, dataset by dataset."""
    store = FeatureStore.open(path)
    datasets: dict[str, set[str]] = defaultdict(set)
    for clip_id, dataset in zip(*(store.clips[name].to_pylist() for name in ("clip_id", "dataset")), strict=True):
        if clip_id in clips:
            datasets[dataset].add(clip_id)
    for dataset, ids in datasets.items():
        again = replace(options, only=frozenset(ids), streams=(kind,), dtype=store.spec(kind).dtype, limit=None)
        failures = extract(roots[dataset], path, again).failures
        report.left |= {failure.clip_id: failure.reason for failure in failures}


def _entries(
    store: FeatureStore, report: RepairReport, roots: dict[str, Path], dataset: str | None
) -> dict[int, ClipRecord]:
    """What belongs into the damaged manifest rows, as far as the datasets tell."""
    damaged = [row for row in report.damaged if row.entry]
    if not damaged:
        return {}
    found = [(root, clip) for root in sorted(set(roots.values())) for clip in read_dataset(root, dataset)]
    by_id = {clip.clip_id: (root, clip) for root, clip in found}
    by_path = {clip.path: (root, clip) for root, clip in found}
    known = store.clips.to_pylist()
    taken = {clip["clip_id"] for row, clip in enumerate(known) if row not in set(damaged)}
    entries: dict[int, ClipRecord] = {}
    for row in damaged:
        cells = known[row] if row < len(known) else {}
        root, clip = by_id.get(cells.get("clip_id", "")) or by_path.get(cells.get("path", "")) or (None, None)
        if root is None or clip is None or clip.clip_id in taken or not (root / clip.path).is_file():
            report.left[cells.get("clip_id", "") or f"row {row.row}"] = (
                f"{row.problem}, and no clip of the dataset fits it; restore clips.parquet from a copy"
            )
            continue
        taken.add(clip.clip_id)
        entries[row.row] = _record(root, clip)
    return entries


def _record(root: Path, clip: Clip) -> ClipRecord:
    state = (root / clip.path).stat()
    return ClipRecord.of(clip, file_sha256(root / clip.path), state.st_size, state.st_mtime_ns)


def _rows(store: FeatureStore, report: RepairReport, roots: dict[str, Path]) -> dict[Kind, list[int]]:
    """Rows to extract again in each stream: those whose source is what it was."""
    rows: dict[Kind, list[int]] = {kind: [] for kind in store.kinds}
    for row in report.damaged:
        if row.entry:
            continue
        clip = store.clips.slice(row.row, 1).to_pylist()[0]
        source = roots.get(clip["dataset"], Path()) / clip["path"]
        if not source.is_file():
            report.left[row.clip_id] = f"{row.problem}, and its source {source} is not there; give its root with --root"
        elif file_sha256(source) != clip["sha256"]:
            report.left[row.clip_id] = f"{row.problem}, and its source {source} has another content now"
        else:
            for kind in row.kinds:
                rows[kind].append(row.row)
    return rows
