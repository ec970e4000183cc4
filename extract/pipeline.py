"""Extraction: plan -> engine (decoding processes -> queue -> batched encoding -> whole shards) -> report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from avem.cache import ClipRecord, StoreWriter, StreamSpec
from avem.cache.disk import layout
from avem.cache.manifest.columns import empty_manifest, statuses
from avem.cache.manifest.subtitles import DATASET_SOURCES
from avem.cache.negatives.staleness import stale_recipes
from avem.cache.records import FAILED, ClipFailure
from avem.cache.relabel import CELLS, corrections
from avem.cache.remote.mirror import Mirror, mirror_of
from avem.errors import DataError
from avem.extract import long_clips, plan
from avem.extract.datasets import clips_csv, dataset_folder, find_reader, plain_clips, read_dataset
from avem.extract.encoders.sources import Source, find_sources
from avem.extract.engine.base import open_engine
from avem.extract.engine.device import Job
from avem.extract.history import finished_before, record_run
from avem.extract.labels import held_clips, label_notes, labels_kept
from avem.extract.options import AUTO, ExtractOptions, ExtractReport
from avem.extract.subtitles import DatasetSubtitles, dataset_subtitles
from avem.extract.survey import survey
from avem.guards.output_kinds import STORE
from avem.guards.outputs import folder_target
from avem.records import Clip
from avem.text.lists import counted
from avem.text.sizes import size_text
from avem.urls import as_url, is_url

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
    given, alone = clips is not None, clips is None and root.is_file()
    if clips is None:
        clips, root = read_dataset(root, options.dataset, options.name)[: options.limit], dataset_folder(root)
    if not options.dry_run and mirror is None:
        folder_target(store_path, STORE, roots=[root], option="--cache")
    if options.only is not None:
        wanted = long_clips.named(options.only)
        clips = [clip for clip in clips if clip.clip_id in wanted]
    report = ExtractReport(store_path, len(clips), workers=options.worker_count)
    sources = find_sources(options)
    writer = StoreWriter.open(store_path) if (store_path / layout.METADATA).is_file() else None
    known = empty_manifest() if writer is None else writer.clips
    records, report.failures = plan.hash_clips(root, clips, known)
    remembered = {} if writer is None else writer.long
    records = long_clips.choose_forms(records, known, options, remembered, root)
    if options.only is not None:
        records = long_clips.select(records, options.only)
    report.clips = len(records) + len(report.failures)
    if not given:
        _survey(root, clips, held_clips(clips, records, report.failures, known), known, options, report, alone=alone)
    work = _Work(root, store_path, options, sources, records, known, None if mirror is None else mirror.url)
    pending = work.pending()
    report.pending = {slot: len(found) for slot, found in pending.items()}
    report.timings.plan = time.perf_counter() - start
    if not any(report.pending.values()) and (options.dry_run or finished_before(store_path, options, sources)):
        logger.info("%s: every clip is in %s.", root, store_path)
        if not options.dry_run and _is_elsewhere(store_path, records, root):
            StoreWriter.open(store_path).add_clips(records, root)
    else:
        _run(work, report)
    _enter_subtitles(work, dataset_subtitles(root, clips, records), report, every=not given and options.only is None)
    if report.relabelled:
        report.notes.insert(0, _correct_labels(store_path, clips, report.relabelled, options))
    if not options.dry_run:
        writer = StoreWriter.open(store_path)
        _remember_long(writer, records, options)
        known, pending = writer.clips, {}
    report.failures += _failed(known, records, plan.columns(store_path, sources), pending)
    report.remarks = long_clips.remark(records, known, root, options)
    report.timings.total = time.perf_counter() - start
    if any(report.encoded.values()):
        with nullcontext() if mirror is None else mirror.exclusive():
            record_run(store_path, options, sources, report)
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


def _survey(
    root: Path,
    clips: Sequence[Clip],
    held: Sequence[Clip | ClipRecord],
    known: pa.Table,
    options: ExtractOptions,
    report: ExtractReport,
    *,
    alone: bool,
) -> None:
    """Enter labels that were corrected or are not understood, and what the dataset's folder holds besides clips.

    Args:
        root: The folder.
        clips: What was found there.
        held: What the store has or gets of it.
        known: The store's manifest.
        options: Of the run.
        report: Where it is entered.
        alone: Whether a clip or a table was named: what else its folder holds does not matter.
    """
    report.notes = label_notes(held)
    kept = labels_kept(clips, known)
    if kept:
        report.notes = [f"{root} gives no labels; the {kept} that the store has stay."]
    report.relabelled = len(corrections(clips, [(0, known.select(["clip_id", *CELLS]))]))
    if alone:
        return
    reader = find_reader(root, options.dataset)
    hidden, passed_over = survey(root, clips, by_folder=reader.labels_by_folder)
    report.failures += hidden
    if not kept and not any(clip.emotions_raw for clip in clips) and reader in (plain_clips.READER, clips_csv.READER):
        report.notes.append(plain_clips.advice(root))
    report.notes += passed_over


def _correct_labels(store_path: Path, clips: Sequence[Clip], count: int, options: ExtractOptions) -> str:
    """Bring the store's labels, splits and sources up to date with the dataset's, and say so."""
    number = counted(count, "label")
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


def _enter_subtitles(work: _Work, subtitles: DatasetSubtitles, report: ExtractReport, *, every: bool) -> None:
    """Bring the store's subtitles up to date with the dataset's, and say how many clips have one.

    Args:
        work: What the run is about.
        subtitles: The dataset's.
        report: Gets notes.
        every: Whether the clips are all of the dataset as it is now, so that a subtitle that is gone is removed.
    """
    report.notes += subtitles.notes()
    found = {name: subtitle for name, subtitle in subtitles.found.items() if every or subtitle is not None}
    before = set(work.known["subtitle_source"].unique().to_pylist()) & set(DATASET_SOURCES)
    if not (any(found.values()) or before) or work.options.dry_run:
        return
    report.subtitled = StoreWriter.open(work.store).enter_subtitles(found)
    if report.subtitled:
        number = "1 subtitle" if report.subtitled == 1 else f"{report.subtitled} subtitles"
        report.notes.append(f"{number} entered or changed.")


def _is_elsewhere(store_path: Path, records: Sequence[ClipRecord], root: Path) -> bool:
    """Whether the store remembers another folder for these clips, because the dataset was moved."""
    roots = layout.store_attributes(layout.read_metadata(store_path), str(store_path)).get("roots", {})
    return {roots.get(record.dataset) for record in records} != {str(root.resolve())}


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run is about."""

    root: Path
    store: Path
    options: ExtractOptions
    sources: Mapping[str, Source]
    records: Sequence[ClipRecord]
    known: pa.Table
    url: str | None = None
    """Of a remote store, whose small files `store` mirrors."""

    def pending(self) -> dict[str, list[ClipRecord]]:
        """The clips that are missing in each stream, by slot."""
        columns = plan.columns(self.store, self.sources)
        again = self.options.retry_failed
        return {slot: plan.pending_records(self.records, self.known, column, again) for slot, column in columns.items()}

    def weigh(self, specs: Mapping[str, StreamSpec], report: ExtractReport) -> None:
        """Enter how large the result will be, and check that it will fit.

        Raises:
            StoreError: It would not.
        """
        report.sizes = plan.stream_sizes(self.root, specs, self.sources, self.pending())
        columns = plan.columns(self.store, self.sources)
        replaced = plan.bytes_replaced(self.store, specs, columns, self.known)
        report.bytes_needed = max(plan.bytes_needed(report.sizes) - replaced, 0)
        report.bytes_free = plan.free_bytes(self.store)
        logger.info(
            "%s: %s to extract, %s of features, %s free.",
            self.root,
            ", ".join(f"{count} {slot}" for slot, count in report.pending.items()),
            size_text(report.bytes_needed),
            size_text(report.bytes_free),
        )
        if self.url is None:
            plan.check_disk(self.store, report.bytes_needed, report.bytes_free)

    def described(self) -> dict[str, StreamSpec] | None:
        """The streams from the encoders' configurations alone; None where an encoder has to be loaded for that."""
        specs = {}
        for slot, source in self.sources.items():
            if source.describe is None:
                return None
            specs[slot] = source.describe(source.dtype if self.options.dtype == AUTO else self.options.dtype)
        return specs


def _run(work: _Work, report: ExtractReport) -> None:
    """Load the encoders, check that the result will fit, and fill the store."""
    options, records, root = work.options, work.records, work.root
    if options.dry_run and (work.store / layout.METADATA).is_file():
        StoreWriter.open(work.store).check_clips(records)
    if options.dry_run and (specs := work.described()) is not None:
        work.weigh(specs, report)
        return
    begin = time.perf_counter()
    with open_engine(options, max(report.pending.values()), work.sources) as engine:
        report.timings.load = time.perf_counter() - begin
        work.weigh(engine.specs, report)
        if options.dry_run:
            return
        if not records:
            raise DataError(f"None of the {report.clips} clips of {root} can be read: {report.failures[0].reason}.")
        writer = StoreWriter.open(work.store)
        for spec in engine.specs.values():
            writer.check(spec)
        rows = dict(zip(writer.add_clips(records, root).tolist(), records, strict=True))
        _remember_long(writer, records, options)
        streams = {slot: writer.stream(spec) for slot, spec in engine.specs.items()}
        columns = {slot: stream.column for slot, stream in streams.items()}
        if options.retry_failed:
            _mark_failed_pending(writer, rows, columns)
        writer.settle()
        engine.fill(Job(root, work.store, options, engine.specs, rows, work.url), report)
    known = writer.finish()
    left = {slot: len(plan.pending_records(records, known, column, False)) for slot, column in columns.items()}
    report.left = {slot: count for slot, count in left.items() if count}


def _mark_failed_pending(writer: StoreWriter, rows: Iterable[int], columns: Mapping[str, str]) -> None:
    """Have the failed ones among the rows tried again, by every device alike."""
    table, rows = writer.clips, sorted(rows)
    for column in columns.values():
        status = statuses(table, column)
        if failed := [row for row in rows if status[row].startswith(FAILED)]:
            writer.mark_pending(column, failed)


def _remember_long(writer: StoreWriter, records: Sequence[ClipRecord], options: ExtractOptions) -> None:
    if options.long is not None:
        writer.remember_long({record.dataset for record in records}, options.long)


def _failed(
    table: pa.Table,
    records: Sequence[ClipRecord],
    columns: Mapping[str, str],
    pending: Mapping[str, Sequence[ClipRecord]],
) -> list[ClipFailure]:
    """Clips that the manifest says failed, in this run or an earlier one; those that are to be tried again are not."""
    failures = []
    for slot, column in columns.items():
        status = plan.statuses(table, column)
        again = {record.clip_id for record in pending.get(slot, ())}
        failures += [
            ClipFailure(clip_id, slot, status[clip_id].removeprefix(f"{FAILED}: "))
            for clip_id in (record.clip_id for record in records)
            if status.get(clip_id, "").startswith(FAILED) and clip_id not in again
        ]
    return failures
