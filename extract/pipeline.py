"""Extraction: plan -> engine (decoding processes -> queue -> batched encoding -> whole shards) -> report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import pyarrow as pa

from avem.cache import ClipRecord, StoreWriter
from avem.cache.disk import layout
from avem.cache.disk.location import as_url, is_url
from avem.cache.disk.manifest import empty_manifest
from avem.cache.negatives.staleness import stale_recipes
from avem.cache.records import FAILED, ClipFailure, Kind
from avem.cache.relabel import CELLS, corrections
from avem.cache.remote.mirror import Mirror, mirror_of
from avem.errors import DataError
from avem.extract import long_clips, plan
from avem.extract.datasets import find_reader, read_dataset
from avem.extract.engine.base import open_engine
from avem.extract.engine.device import Job
from avem.extract.history import finished_before, record_run
from avem.extract.labels import label_notes
from avem.extract.options import ExtractOptions, ExtractReport
from avem.extract.survey import survey
from avem.guards.output_kinds import STORE
from avem.guards.outputs import folder_target
from avem.records import Clip

logger = logging.getLogger(__name__)


def extract(
    root: str | Path,
    store_path: str | Path,
    options: ExtractOptions | None = None,
    clips: Sequence[Clip] | None = None,
) -> ExtractReport:
    """Turn a dataset's clips into features in a store; takes up again wherever an earlier run stopped.

    Args:
        root: The dataset's root folder.
        store_path: The store; made if it is not there.
        options: How; the defaults are the released encoders.
        clips: These rather than what the layout of the root says.

    Returns:
        What was done. Clips that failed are in it and in the manifest; they do not stop the run.

    Raises:
        AvemError: The dataset, an encoder, the store or an option is not usable; nothing of it is half done.
    """
    options = options or ExtractOptions()
    start = time.perf_counter()
    root, mirror = Path(root).expanduser(), _mirror(store_path)
    store_path = Path(store_path).expanduser() if mirror is None else mirror.folder
    given, clips = clips is not None, read_dataset(root, options.dataset)[: options.limit] if clips is None else clips
    if not options.dry_run and mirror is None:
        folder_target(store_path, STORE, roots=[root], option="--cache")
    if options.only is not None:
        wanted = long_clips.named(options.only)
        clips = [clip for clip in clips if clip.clip_id in wanted]
    report = ExtractReport(store_path, len(clips), workers=options.worker_count)
    writer = StoreWriter.open(store_path) if (store_path / layout.METADATA).is_file() else None
    known = empty_manifest() if writer is None else writer.clips
    records, report.failures = plan.hash_clips(root, clips, known)
    remembered = {} if writer is None else writer.long
    records = long_clips.choose_forms(records, known, options, remembered, root)
    if options.only is not None:
        records = long_clips.select(records, options.only)
    report.clips = len(records) + len(report.failures)
    ids = [record.clip_id for record in records]
    if not given:
        _survey(root, clips, known, options, report)
    report.pending = {kind: plan.count_pending(records, known, kind, options.retry_failed) for kind in options.streams}
    report.timings.plan = time.perf_counter() - start
    if not any(report.pending.values()) and finished_before(store_path, options):
        logger.info("%s: every clip is in %s.", root, store_path)
        if not options.dry_run and _is_elsewhere(store_path, records, root):
            StoreWriter.open(store_path).add_clips(records, root)
    else:
        _run(root, store_path, options, records, known, report, None if mirror is None else mirror.url)
    if report.relabelled:
        report.notes.insert(0, _correct_labels(store_path, clips, report.relabelled, options))
    if not options.dry_run:
        writer = StoreWriter.open(store_path)
        _remember_long(writer, records, options)
        known = writer.clips
        report.failures += _failed(known, ids, options)
    report.remarks = long_clips.remark(records, known, root, options)
    report.timings.total = time.perf_counter() - start
    if any(report.encoded.values()):
        with nullcontext() if mirror is None else mirror.exclusive():
            record_run(store_path, options, report)
    if mirror is not None:
        report.store = Path(mirror.url)
    return report


def _mirror(store_path: str | Path) -> Mirror | None:
    """The local mirror, brought up to date, of a store behind a URL; None for a store on this machine."""
    if not is_url(store_path):
        return None
    mirror = mirror_of(as_url(store_path))
    mirror.down()
    return mirror


def _survey(root: Path, clips: Sequence[Clip], known: pa.Table, options: ExtractOptions, report: ExtractReport) -> None:
    """Enter what a dataset's folder holds besides readable clips, and labels that it has corrected."""
    hidden, passed_over = survey(root, clips, by_folder=find_reader(root, options.dataset).labels_by_folder)
    report.failures += hidden
    report.notes = [*label_notes(clips), *passed_over]
    report.relabelled = len(corrections(clips, known.select(["clip_id", *CELLS]).to_pydict()))


def _correct_labels(store_path: Path, clips: Sequence[Clip], count: int, options: ExtractOptions) -> str:
    """Bring the store's labels, splits and sources up to date with the dataset's, and say so."""
    number = "1 label" if count == 1 else f"{count} labels"
    if options.dry_run:
        return f"{number} to change."
    writer = StoreWriter.open(store_path)
    writer.relabel(clips)
    recipes = stale_recipes(store_path, writer.clips)
    if not recipes:
        return f"{number} changed."
    return (
        f"{number} changed; negatives mined before are stale ({', '.join(recipes)}): mine them again with "
        "`avem cache negatives`."
    )


def _is_elsewhere(store_path: Path, records: Sequence[ClipRecord], root: Path) -> bool:
    """Whether the store remembers another folder for these clips, because the dataset was moved."""
    roots = layout.store_attributes(layout.read_metadata(store_path), str(store_path)).get("roots", {})
    return {roots.get(record.dataset) for record in records} != {str(root.resolve())}


def _run(
    root: Path,
    store_path: Path,
    options: ExtractOptions,
    records: Sequence[ClipRecord],
    known: pa.Table,
    report: ExtractReport,
    url: str | None,
) -> None:
    """Load the encoders, check that the result will fit, and fill the store."""
    begin = time.perf_counter()
    with open_engine(options, max(report.pending.values())) as engine:
        report.timings.load = time.perf_counter() - begin
        report.bytes_needed = plan.bytes_needed(engine.specs, cast("dict[Kind, int]", report.pending))
        report.bytes_needed = max(report.bytes_needed - plan.bytes_replaced(store_path, engine.specs, known), 0)
        report.bytes_free = plan.free_bytes(store_path)
        logger.info(
            "%s: %s to extract, %.2f GB of features, %.1f GB free.",
            root,
            ", ".join(f"{count} {kind}" for kind, count in report.pending.items()),
            report.bytes_needed / 1e9,
            report.bytes_free / 1e9,
        )
        if url is None:
            plan.check_disk(store_path, report.bytes_needed, report.bytes_free)
        if options.dry_run:
            return
        if not records:
            raise DataError(f"None of the {report.clips} clips of {root} can be read: {report.failures[0].reason}.")
        writer = StoreWriter.open(store_path)
        for spec in engine.specs.values():
            writer.check(spec)
        rows = dict(zip(writer.add_clips(records, root).tolist(), records, strict=True))
        _remember_long(writer, records, options)
        for spec in engine.specs.values():
            writer.stream(spec)
        if options.retry_failed:
            _mark_failed_pending(writer, rows, options)
        writer.settle()
        engine.fill(Job(root, store_path, options, engine.specs, rows, url), report)
    known = writer.finish()
    left = {kind: plan.count_pending(records, known, kind, retry_failed=False) for kind in options.streams}
    report.left = {kind: count for kind, count in left.items() if count}


def _mark_failed_pending(writer: StoreWriter, rows: Iterable[int], options: ExtractOptions) -> None:
    """Have the failed ones among the rows tried again, by every device alike."""
    table, rows = writer.clips, sorted(rows)
    for kind in options.streams:
        status = table[f"{kind}_status"].to_pylist()
        if failed := [row for row in rows if status[row].startswith(FAILED)]:
            writer.mark_pending(kind, failed)


def _remember_long(writer: StoreWriter, records: Sequence[ClipRecord], options: ExtractOptions) -> None:
    if options.long is not None:
        writer.remember_long({record.dataset for record in records}, options.long)


def _failed(table: pa.Table, ids: Sequence[str], options: ExtractOptions) -> list[ClipFailure]:
    """Clips that the manifest says failed, in this run or an earlier one."""
    failures = []
    for kind in options.streams:
        status = plan.statuses(table, kind)
        failures += [
            ClipFailure(clip_id, kind, status[clip_id].removeprefix(f"{FAILED}: "))
            for clip_id in ids
            if status.get(clip_id, "").startswith(FAILED)
        ]
    return failures
