"""Extraction: plan -> decoding processes -> bounded queue -> batched encoding -> whole-shard writes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from torch import Tensor

from avem.cache.layout import METADATA
from avem.cache.manifest import empty_manifest
from avem.cache.records import FAILED, ClipRecord, Kind, RowDetails, Shard
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter
from avem.errors import DataError
from avem.extract import plan
from avem.extract.assemble import ShardWriterThread, StreamAssembler
from avem.extract.datasets import read_dataset
from avem.extract.decode_task import DecodedClip, DecodeTask
from avem.extract.history import finished_before, record_run
from avem.extract.loading import Encoders, load_encoders
from avem.extract.options import ClipFailure, ExtractOptions, ExtractReport, Timings
from avem.extract.pool import DecodePool
from avem.progress import stage

logger = logging.getLogger(__name__)

BATCH_ON_GPU, BATCH_ON_CPU = 32, 8
"""Clips encoded at once unless `--batch-size` says otherwise."""


def extract(root: str | Path, store_path: str | Path, options: ExtractOptions | None = None) -> ExtractReport:
    """Turn a dataset's clips into features in a store; takes up again wherever an earlier run stopped.

    Args:
        root: The dataset's root folder.
        store_path: The store; made if it is not there.
        options: How; the defaults are the released encoders.

    Returns:
        What was done. Clips that failed are in it and in the manifest; they do not stop the run.

    Raises:
        AvemError: The dataset, an encoder, the store or an option is not usable; nothing of it is half done.
    """
    options = options or ExtractOptions()
    start = time.perf_counter()
    root, store_path = Path(root).expanduser(), Path(store_path).expanduser()
    clips = read_dataset(root, options.dataset)[: options.limit]
    if options.only is not None:
        clips = [clip for clip in clips if clip.clip_id in options.only]
    report = ExtractReport(store_path, len(clips), workers=options.worker_count)
    known = StoreWriter.open(store_path).clips if (store_path / METADATA).is_file() else empty_manifest()
    records, report.failures = plan.hash_clips(root, clips, known)
    ids = [record.clip_id for record in records]
    report.pending = {kind: plan.count_pending(records, known, kind, options.retry_failed) for kind in options.streams}
    report.timings.plan = time.perf_counter() - start
    if not any(report.pending.values()) and finished_before(store_path, options):
        logger.info("%s: every clip is in %s.", root, store_path)
    else:
        _run(root, store_path, options, records, report)
    if not options.dry_run:
        report.failures += _failed(store_path, ids, options)
    report.timings.total = time.perf_counter() - start
    if any(report.encoded.values()):
        record_run(store_path, options, report)
    return report


def _run(
    root: Path, store_path: Path, options: ExtractOptions, records: Sequence[ClipRecord], report: ExtractReport
) -> None:
    """Load the encoders, check that the result will fit, and fill the store."""
    begin = time.perf_counter()
    encoders = load_encoders(options)
    specs = encoders.specs(options)
    report.timings.load = time.perf_counter() - begin
    report.bytes_needed = plan.bytes_needed(specs, cast("dict[Kind, int]", report.pending))
    report.bytes_free = plan.free_bytes(store_path)
    logger.info(
        "%s: %s to extract, %.2f GB of features, %.1f GB free.",
        root, ", ".join(f"{count} {kind}" for kind, count in report.pending.items()),
        report.bytes_needed / 1e9, report.bytes_free / 1e9,
    )  # fmt: skip
    plan.check_disk(store_path, report.bytes_needed, report.bytes_free)
    if options.dry_run:
        return
    if not records:
        raise DataError(f"None of the {report.clips} clips of {root} can be read: {report.failures[0].reason}.")
    writer = StoreWriter.open(store_path)
    rows = dict(zip(writer.add_clips(records, root).tolist(), records, strict=True))
    streams = {kind: writer.stream(spec) for kind, spec in specs.items()}
    _fill(root, rows, streams, encoders, options, report)
    writer.finish()


def _fill(
    root: Path, rows: dict[int, ClipRecord], streams: dict[Kind, StreamWriter], encoders: Encoders,
    options: ExtractOptions, report: ExtractReport,
) -> None:  # fmt: skip
    """Decode, encode and write everything that is pending among the rows."""
    timings = report.timings
    batch_size = options.batch_size or (BATCH_ON_GPU if encoders.on_gpu else BATCH_ON_CPU)
    with ExitStack() as stack:
        shard_writer = stack.enter_context(ShardWriterThread(timings))
        assemblers = {
            kind: StreamAssembler(
                encoders.get(kind), stream, _pending(stream, rows, options.retry_failed), batch_size,
                shard_writer, timings,
            )
            for kind, stream in streams.items()
        }  # fmt: skip
        wanted = sorted(set().union(*(assembler.rows for assembler in assemblers.values())))
        bar = stack.enter_context(stage("extract", len(wanted)))
        pool = stack.enter_context(DecodePool(min(options.worker_count, max(len(wanted), 1))))
        tasks = _tasks(root, wanted, rows, assemblers, encoders)
        waited_since = time.perf_counter()
        for task, clip in pool.map(tasks, window=2 * batch_size + 2 * options.worker_count):
            timings.wait += time.perf_counter() - waited_since
            timings.decode += clip.seconds
            failed = _take(task, clip, assemblers, encoders, timings)
            report.fallbacks += [f"{rows[task.row].clip_id} ({kind})" for kind in clip.fallbacks]
            bar.advance(failures=failed)
            waited_since = time.perf_counter()
    report.encoded = {kind: assembler.encoded for kind, assembler in assemblers.items()}


def _pending(stream: StreamWriter, rows: dict[int, ClipRecord], retry_failed: bool) -> list[Shard]:
    """The stream's pending shards, of each only the rows that this run is about."""
    shards = []
    for shard in stream.pending(retry_failed=retry_failed):
        mine = [row for row in shard.rows if row in rows]
        if mine:
            shards.append(Shard(shard.index, mine))
    return shards


def _tasks(
    root: Path, wanted: Sequence[int], rows: dict[int, ClipRecord], assemblers: dict[Kind, StreamAssembler],
    encoders: Encoders,
) -> Iterator[DecodeTask]:  # fmt: skip
    """Decoding tasks in the order of rows, for the streams whose shards this run owns."""
    for row in wanted:
        claimed = tuple(kind for kind, assembler in assemblers.items() if assembler.claim(row))
        if not claimed:
            continue
        record = rows[row]
        path, sound_path = str(root / record.path), str(root / (record.audio_path or record.path))
        yield DecodeTask(row, path, sound_path, claimed, *encoders.sizes)


def _take(
    task: DecodeTask, clip: DecodedClip, assemblers: dict[Kind, StreamAssembler], encoders: Encoders, timings: Timings
) -> bool:
    """Hand a decoded clip to the streams it was decoded for; whether it failed in any."""
    failed = False
    for kind, assembler in assemblers.items():
        if kind not in task.wants:
            continue
        error = clip.video_error if kind == "video" else clip.sound_error
        details = RowDetails(
            "failed" if error else "ok", error, clip.duration_s, clip.fps, clip.total_frames, clip.has_audio
        )
        inputs: Tensor | None = None
        if not error:
            start = time.perf_counter()
            inputs = encoders.inputs(kind, clip)
            timings.encode += time.perf_counter() - start
        assembler.add(task.row, inputs, details)
        failed = failed or bool(error)
    return failed


def _failed(store_path: Path, ids: Sequence[str], options: ExtractOptions) -> list[ClipFailure]:
    """Clips that the manifest says failed, in this run or an earlier one."""
    table = StoreWriter.open(store_path).clips
    failures = []
    for kind in options.streams:
        status = plan.statuses(table, kind)
        failures += [
            ClipFailure(clip_id, kind, status[clip_id].removeprefix(f"{FAILED}: "))
            for clip_id in ids
            if status.get(clip_id, "").startswith(FAILED)
        ]
    return failures
