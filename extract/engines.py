"""Where an extraction runs: on the devices of this machine, or (`avem.extract.ray_engine`) on a Ray cluster.

An engine loads the encoders and fills the store's pending shards. All devices share one plan: each goes through the
pending shards from a place of its own and claims those that no other has, so any number of them, on any number of
machines, write the same bytes.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from avem.cache.records import Kind, StreamSpec
from avem.extract.fill import FillReport, Job, Lines, Part, fill
from avem.extract.loading import load_encoders
from avem.extract.options import ExtractOptions, ExtractReport
from avem.progress import stages


class Engine(AbstractContextManager["Engine"], Protocol):
    """What the pipeline needs of an engine; leaving its context frees the devices."""

    specs: dict[Kind, StreamSpec]
    """The streams that its encoders make."""

    def fill(self, job: Job, report: ExtractReport) -> None:
        """Fill the pending shards and enter what was done into the report."""
        ...


class LocalEngine:
    """The devices of this machine, a thread each; decoding processes are shared out among them.

    Args:
        options: Which devices, encoders and precision.

    Raises:
        AvemError: A device or an encoder can't be used.
    """

    def __init__(self, options: ExtractOptions) -> None:
        self._encoders = load_encoders(options)
        self.specs = self._encoders[0].specs(options)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._encoders = []

    def fill(self, job: Job, report: ExtractReport) -> None:
        """Fill the pending shards on every device and enter what was done into the report.

        Raises:
            StoreError: The store can't be written.
        """
        devices = len(self._encoders)
        parts = [Part(index, devices, max(report.workers // devices, 1)) for index in range(devices)]
        report.devices, report.workers = devices, sum(part.workers for part in parts)
        stop = threading.Event()
        rows = sum(report.pending.values())
        clips = max(report.pending.values())
        with stages(("decode", clips, "clips"), ("encode", rows, "rows"), ("write", rows, "rows")) as lines:
            if devices == 1:  # in the main thread, which Ctrl-C reaches
                add_report(report, fill(job, self._encoders[0], parts[0], Lines(*lines), stop))
                return
            with ThreadPoolExecutor(devices, thread_name_prefix="device") as threads:
                futures = [
                    threads.submit(fill, job, encoders, part, Lines(*lines), stop)
                    for encoders, part in zip(self._encoders, parts, strict=True)
                ]
                try:
                    for future in as_completed(futures):
                        add_report(report, future.result())
                finally:
                    stop.set()


def add_report(report: ExtractReport, part: FillReport) -> None:
    """Enter what one device did."""
    for kind, count in part.encoded.items():
        report.encoded[kind] = report.encoded.get(kind, 0) + count
    report.fallbacks += part.fallbacks
    report.timings.add(part.timings)


def open_engine(options: ExtractOptions) -> Engine:
    """Start the engine that the options name.

    Raises:
        AvemError: It, a device or an encoder can't be used; the message names the option.
    """
    if options.engine == "ray":
        from avem.extract.ray_engine import RayEngine

        return RayEngine(options)
    return LocalEngine(options)
