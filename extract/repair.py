"""Repairs a store: rows that `verify` finds damaged are extracted again from their source files, and only these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avem.cache import ClipRecord, DamagedFile, DamagedRow, FeatureStore, StoreWriter
from avem.cache.disk.layout import LEDGER
from avem.cache.disk.locks import unswept
from avem.cache.features import Stream
from avem.cache.manifest.columns import statuses
from avem.cache.records import PENDING
from avem.cache.restore import damaged_records, restore_files
from avem.cache.windows import whole_id, window_spans
from avem.errors import DataError, SettingError, StoreError
from avem.extract.again import options_for
from avem.extract.datasets import read_dataset
from avem.extract.known_clips import known_clips
from avem.extract.long_clips import as_window, measure
from avem.extract.options import ExtractOptions
from avem.extract.pipeline import extract
from avem.files import file_sha256, write_atomic
from avem.reading import read_json
from avem.records import Clip
from avem.sealed.checksums import seal, unseal
from avem.text.names import named_path, storable

BEGUN = "repair.json"
"""Ledger file that names the clips whose rows a repair has marked and not yet extracted again."""


@dataclass(slots=True)
class RepairReport:
    """What a repair did."""

    damaged: list[DamagedRow] = field(default_factory=list)
    """What `verify` found."""
    repaired: list[str] = field(default_factory=list)
    """Clips whose rows were extracted again."""
    left: dict[str, str] = field(default_factory=dict)
    """Clips, or rows without one, that could not be repaired, and why; nothing of them was changed."""
    restored: list[str] = field(default_factory=list)
    """Files that were written again, relative to the store: the manifest, metadata, the ledger."""
    files_left: list[DamagedFile] = field(default_factory=list)
    """Files that are still damaged, and what to do about each."""


def repair(store_path: str | Path, options: ExtractOptions, root: str | Path | None = None) -> RepairReport:
    """Verify a store and extract its damaged rows again.

    An entry of the manifest that was edited or moved is entered again from the dataset and extracted again as well. A
    repair that was killed is finished by the next one.

    Args:
        store_path: The store's folder.
        options: Encoders and how they run; they have to be those that made the store. Streams and the dtype are taken
            from the store.
        root: Where the source files are now; None: where they were at the extraction.

    Returns:
        What was found, what was repaired, and what could not be.

    Raises:
        AvemError: The store can't be read at all, or an encoder or a dataset can't be found.
    """
    path = Path(store_path).expanduser()
    shards = damaged_records(path)  # before they are removed
    restored = restore_files(path)
    store = FeatureStore.open(path, check=False)
    report = RepairReport(store.verify(), restored=restored)
    roots = {name: Path(root or folder) for name, folder in store.roots.items()}
    begun = path / LEDGER / BEGUN
    streams = {stream.column: stream for stream in map(store.stream, store.streams)}
    work: dict[str, set[str]] = {column: set() for column in streams}
    if begun.is_file():
        work |= {column: clips for column, clips in _begun(begun).items() if column in streams}
    entries = _entries(store, report, roots, options.dataset)
    rows = _rows(store, report, roots)
    for column, clips in work.items():
        clips |= {record.clip_id for record in entries.values()}
        clips |= {store.clips["clip_id"][row].as_py() for row in rows[column]}
        clips |= _pending(store, streams[column], shards[column])
    again = _again(streams, work, options, report)
    if any(work.values()):
        with unswept(path):
            write_atomic(begun, json.dumps(seal({column: sorted(clips) for column, clips in work.items()})))
        writer = StoreWriter.open(path)
        if entries:
            writer.enter_again(entries)
        for column, damaged in rows.items():
            if column in again:
                writer.mark_pending(column, damaged)
        for column, options_again in again.items():
            _extract_again(path, work[column], root, options_again, report)
        begun.unlink()
    report.repaired = sorted(set().union(*work.values()) - report.left.keys())
    report.files_left = FeatureStore.open(path, check=False).damaged_files()
    return report


def _again(
    streams: Mapping[str, Stream], work: Mapping[str, set[str]], options: ExtractOptions, report: RepairReport
) -> dict[str, ExtractOptions]:
    """How to extract the rows of each stream with work again; what can't be enters the report, and stays as it is."""
    again: dict[str, ExtractOptions] = {}
    for column, clips in work.items():
        if not clips:
            continue
        try:
            again[column] = options_for(streams[column].spec, options)
        except SettingError as error:
            report.left |= dict.fromkeys(clips, str(error).removesuffix("."))
    return again


def _begun(path: Path) -> dict[str, set[str]]:
    """What an earlier repair had begun.

    Raises:
        StoreError: Its record is damaged.
    """
    try:
        clips = unseal(read_json(path, dict, surrogates=True), str(path))
        return {str(column): set(ids) for column, ids in clips.items()}
    except (DataError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged, which names the clips of a repair that did not end; delete it and run `avem extract`, "
            "which extracts them again."
        ) from error


def _pending(store: FeatureStore, stream: Stream, shards: set[int]) -> set[str]:
    """Clips of some shards that count as not extracted, because the record that said so is gone."""
    size, ids = stream.spec.rows_per_shard, store.clips["clip_id"].to_pylist()
    status = statuses(store.clips, stream.column)
    return {ids[row] for row in range(len(ids)) if status[row] == PENDING and row // size in shards}


def _extract_again(
    path: Path, clips: set[str], root: str | Path | None, options: ExtractOptions, report: RepairReport
) -> None:
    """Extract the pending rows of one stream, folder by folder, as the stream was made."""
    store = FeatureStore.open(path, check=False)
    for folder, known in known_clips(store, clips, root).items():
        failures = extract(folder, path, options, known).failures
        report.left |= {failure.clip_id: failure.reason for failure in failures}


def _entries(
    store: FeatureStore, report: RepairReport, roots: dict[str, Path], dataset: str | None
) -> dict[int, ClipRecord]:
    """What belongs into the damaged manifest rows, as far as the datasets hold them."""
    damaged = [row for row in report.damaged if row.entry]
    if not damaged:
        return {}
    found = [(root, clip) for root in sorted(set(roots.values())) for clip in _named(root, dataset, roots)]
    by_id = {clip.clip_id: (root, clip) for root, clip in found}
    by_path = {storable(clip.path): (root, clip) for root, clip in found}
    known = store.clips.to_pylist()
    taken = {clip["clip_id"] for row, clip in enumerate(known) if row not in set(damaged)}
    entries: dict[int, ClipRecord] = {}
    for row in damaged:
        cells = known[row] if row < len(known) else {}
        name = cells.get("clip_id", "")
        root, clip = by_id.get(name) or by_id.get(whole_id(name)) or by_path.get(cells.get("path", "")) or (None, None)
        fitting = [] if root is None or clip is None or not (root / clip.path).is_file() else _forms(root, clip, cells)
        record = next((record for record in fitting if record.clip_id not in taken), None)
        if record is None:
            report.left[name or f"row {row.row}"] = (
                f"{row.problem}, and no clip of the dataset fits it; restore clips.parquet from a copy"
            )
            continue
        taken.add(record.clip_id)
        entries[row.row] = record
    return entries


def _named(root: Path, dataset: str | None, roots: Mapping[str, Path]) -> list[Clip]:
    """A folder's clips under the names that the store has for its datasets, which `--name` may have given."""
    clips = read_dataset(root, dataset)
    names = [name for name, folder in roots.items() if folder == root]
    if len(names) == 1 and not {clip.dataset for clip in clips} & set(names):
        return read_dataset(root, dataset, names[0])
    return clips


def _forms(root: Path, clip: Clip, cells: Mapping[str, Any]) -> list[ClipRecord]:
    """What a clip's row may have held, the likeliest first: the clip or window that is named, then by what is left."""
    record = _record(root, clip)
    if cells.get("clip_id") == clip.clip_id:
        return [record]
    windows = [as_window(record, span) for span in window_spans(measure([record], root, workers=1)[0])]
    named = [window for window in windows if window.clip_id == cells.get("clip_id")]
    if cells.get("start_s") is None:
        return [*named, record, *windows]
    return named or [*sorted(windows, key=lambda window: window.start_s != cells["start_s"]), record]


def _record(root: Path, clip: Clip) -> ClipRecord:
    state = (root / clip.path).stat()
    return ClipRecord.of(clip, file_sha256(root / clip.path), state.st_size, state.st_mtime_ns)


def _rows(store: FeatureStore, report: RepairReport, roots: dict[str, Path]) -> dict[str, list[int]]:
    """Rows to extract again in each stream: those whose source is what it was."""
    rows: dict[str, list[int]] = {store.stream(name).column: [] for name in store.streams}
    for row in report.damaged:
        if row.entry:
            continue
        clip = store.clips.slice(row.row, 1).to_pylist()[0]
        source = named_path(roots.get(clip["dataset"], Path()), clip["path"])
        if not source.is_file():
            report.left[row.clip_id] = f"{row.problem}, and its source {source} is not there; give its root with --root"
        elif file_sha256(source) != clip["sha256"]:
            report.left[row.clip_id] = f"{row.problem}, and its source {source} has another content now"
        else:
            for kind in row.kinds:
                rows[kind].append(row.row)
    return rows
