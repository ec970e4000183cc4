"""What one device does in an extraction: claim shards, have them decoded, encode and write them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from avem.cache import ClipRecord, RowDetails, Shard, StoreWriter, StreamSpec, StreamWriter
from avem.errors import MediaError
from avem.extract.decode.pool import DecodePool
from avem.extract.decode.task import DecodedClip, DecodeTask
from avem.extract.engine.assemble import ShardWriterThread, StreamAssembler
from avem.extract.engine.encoders import Encoders
from avem.extract.options import ExtractOptions, ExtractReport, Timings
from avem.progress import Stage

BATCH_ON_GPU, BATCH_ON_CPU = 32, 8
"""Clips encoded at once unless `--batch-size` says otherwise."""
BATCH_RAGGED = 4
"""The same where rows differ in length: such clips are large, and encoded one after the other."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be extracted, the same for every device that takes part."""

    root: Path
    store: Path
    options: ExtractOptions
    specs: dict[str, StreamSpec]
    """The streams to write, by slot."""
    rows: dict[int, ClipRecord]
    """The clips that the run is about, by their row."""
    url: str | None = None
    """Where the store is, if it is not on this machine: `store` is then its mirror in this process."""

    def streams(self) -> dict[str, StreamWriter]:
        """Writers of the streams; their claims keep them apart from every other device's."""
        writer = StoreWriter.open(self.store)
        return {slot: writer.stream(spec) for slot, spec in self.specs.items()}

    def pending(self, stream: StreamWriter) -> list[Shard]:
        """A stream's pending shards, of each only the rows that this run is about."""
        shards = [Shard(shard.index, [row for row in shard.rows if row in self.rows]) for shard in stream.pending()]
        return [shard for shard in shards if shard.rows]


@dataclass(frozen=True, slots=True)
class Part:
    """One device's index among all: it begins at its own part of the shards and then works through the others'."""

    index: int = 0
    of: int = 1

    def order(self, shards: Sequence[int]) -> list[int]:
        """Shard numbers in the order in which this device tries to claim them."""
        first = len(shards) * self.index // self.of
        return [*shards[first:], *shards[:first]]


@dataclass(frozen=True, slots=True)
class Lines:
    """Progress of the three stages."""

    decode: Stage
    encode: Stage
    write: Stage


@dataclass(slots=True)
class FillReport:
    """What one device did."""

    encoded: dict[str, int] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)


def fill(job: Job, encoders: Encoders, pool: DecodePool, part: Part, lines: Lines, stop: threading.Event) -> FillReport:
    """Decode, encode and write every pending shard that no other device has claimed.

    Args:
        job: What is to be done.
        encoders: Encoders on this device.
        pool: Its decoding processes; its `map` is used up.
        part: Which device this is.
        lines: Progress to show.
        stop: Set to have no further clips begun.

    Raises:
        StoreError: The store can't be written; what is committed stays.
    """
    report = FillReport()
    usual = BATCH_RAGGED if encoders.ragged else BATCH_ON_GPU if encoders.on_gpu else BATCH_ON_CPU
    batch_size = job.options.batch_size or usual
    streams = job.streams()
    shards = {slot: job.pending(stream) for slot, stream in streams.items()}
    with ExitStack() as stack:
        for stream in streams.values():  # also where an error's traceback would keep them, and their claims, alive
            stack.callback(stream.close)
        writers = {slot: stack.enter_context(ShardWriterThread()) for slot in streams}
        assemblers = {
            slot: StreamAssembler(
                encoders.get(slot),
                stream,
                shards[slot],
                batch_size,
                writers[slot],
                report.timings,
                lines.encode,
                lines.write,
            )
            for slot, stream in streams.items()
        }
        claimed: dict[int, list[str]] = {}
        sizes = {slot: stream.spec.rows_per_shard for slot, stream in streams.items()}
        tasks = _tasks(job, _rows_in_order(shards, sizes, part), assemblers, encoders, stop, claimed)
        waited_since = time.perf_counter()
        for task, clip in pool.map(tasks, window=2 * batch_size + 2 * pool.workers):
            report.timings.wait += time.perf_counter() - waited_since
            report.timings.decode += clip.seconds
            takers = {slot: assemblers[slot] for slot in claimed.pop(task.row)}
            failed = _take(task, clip, takers, encoders, report.timings)
            lines.decode.advance(failures=failed)
            waited_since = time.perf_counter()
    for writer in writers.values():
        report.timings.add(writer.timings)
    report.encoded = {slot: assembler.encoded for slot, assembler in assemblers.items()}
    return report


def _rows_in_order(shards: Mapping[str, Sequence[Shard]], sizes: Mapping[str, int], part: Part) -> list[int]:
    """The pending rows of all streams, shard by shard in the device's order, ascending within each."""
    rows: dict[int, set[int]] = {}
    unit = math.lcm(*sizes.values())  # so many rows are whole shards of every stream
    for row in (row for of_stream in shards.values() for shard in of_stream for row in shard.rows):
        rows.setdefault(row // unit, set()).add(row)
    return [row for index in part.order(sorted(rows)) for row in sorted(rows[index])]


def _tasks(
    job: Job,
    rows: Sequence[int],
    assemblers: Mapping[str, StreamAssembler],
    encoders: Encoders,
    stop: threading.Event,
    claimed: dict[int, list[str]],
) -> Iterator[DecodeTask]:
    """Decoding tasks for the rows, each for the streams whose shard this device owns; these enter `claimed`."""
    for row in rows:
        if stop.is_set():
            return
        slots = [slot for slot, assembler in assemblers.items() if assembler.claim(row)]
        if not slots:
            continue
        claimed[row] = slots
        record = job.rows[row]
        path, sound_path = str(job.root / record.path), str(job.root / (record.audio_path or record.path))
        parts = tuple(dict.fromkeys(encoders.part(slot) for slot in slots))
        decoder, span = job.options.decoder, record.span
        yield DecodeTask(row, path, sound_path, parts, encoders.pictures, encoders.samples, decoder, span)


def _take(
    task: DecodeTask,
    clip: DecodedClip,
    assemblers: Mapping[str, StreamAssembler],
    encoders: Encoders,
    timings: Timings,
) -> bool:
    """Hand a decoded clip to the streams it was decoded for; whether it failed in any."""
    failed = False
    for slot, assembler in assemblers.items():
        part = encoders.part(slot)
        error = clip.video_error if part == "video" else clip.sound_error
        details = row_details(part, clip, error, task)
        inputs: Any = None
        if not error:
            start = time.perf_counter()
            try:
                inputs = encoders.inputs(slot, clip, details.duration_s)
            except MediaError as unfit:
                error = str(unfit)
                details = replace(details, status="failed", reason=error)
            timings.encode += time.perf_counter() - start
        assembler.add(task.row, inputs, details)
        failed = failed or bool(error)
    return failed


def row_details(part: str, clip: DecodedClip, error: str, task: DecodeTask) -> RowDetails:
    """What decoding a part of a clip told; the manifest takes the longer of the two lengths."""
    status: Literal["ok", "failed"] = "failed" if error else "ok"
    length_s = clip.duration_s if part == "video" else clip.sound_duration_s
    if length_s is not None and task.span is not None:
        length_s = max(min(length_s, task.span[1]) - task.span[0], 0.0)
    if part == "video":
        return RowDetails(status, error, length_s, clip.fps, clip.total_frames, clip.has_audio, task.decoder)
    return RowDetails(status, error, length_s, None, None, clip.has_audio, task.decoder, clip.silent)


def add_report(report: ExtractReport, part: FillReport) -> None:
    """Enter what one device did."""
    for slot, count in part.encoded.items():
        report.encoded[slot] = report.encoded.get(slot, 0) + count
    report.timings.add(part.timings)
