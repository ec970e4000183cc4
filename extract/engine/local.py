"""The engine of one machine: a thread for each device, and decoding processes that are shared out among them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from avem.extract.decode.pool import DecodePool
from avem.extract.encoders.source import Source
from avem.extract.engine.device import Job, Lines, Part, add_report, fill
from avem.extract.engine.encoders import device_list, load_encoders
from avem.extract.options import ExtractOptions, ExtractReport
from avem.progress import stages


class LocalEngine:
    """The devices of this machine, a thread each.

    Decoding processes start first, so that they are ready by the time encoders are loaded and arrays are made.

    Args:
        options: Which devices, encoders and precision.
        clips: How many are to be decoded at most; no more processes than that are started.
        sources: The encoders, where they were looked for already.

    Raises:
        AvemError: A device or an encoder can't be used.
    """

    def __init__(self, options: ExtractOptions, clips: int, sources: Mapping[str, Source] | None = None) -> None:
        devices = device_list(options)
        workers = max(min(options.worker_count, clips) // len(devices), 1)
        with ExitStack() as stack:
            self._pools = [] if options.dry_run else [stack.enter_context(DecodePool(workers)) for _ in devices]
            self._encoders = load_encoders(options, devices, sources)
            self.specs = self._encoders[0].specs(options)
            self._stack = stack.pop_all()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._encoders = []
        self._stack.close()

    def fill(self, job: Job, report: ExtractReport) -> None:
        """Fill the pending shards on every device and enter what was done into the report.

        Raises:
            StoreError: The store can't be written.
        """
        report.devices, report.workers = len(self._pools), sum(pool.workers for pool in self._pools)
        rows, clips = sum(report.pending.values()), max(report.pending.values())
        stop = threading.Event()
        with stages(("decode", clips, "clips"), ("encode", rows, "rows"), ("write", rows, "rows")) as shown:
            work = [
                partial(fill, job, encoders, pool, Part(index, report.devices), Lines(*shown), stop)
                for index, (encoders, pool) in enumerate(zip(self._encoders, self._pools, strict=True))
            ]
            if len(work) == 1:  # in the main thread, which Ctrl-C reaches
                add_report(report, work[0]())
                return
            with ThreadPoolExecutor(len(work), thread_name_prefix="device") as threads:
                futures = [threads.submit(one) for one in work]
                try:
                    for future in as_completed(futures):
                        add_report(report, future.result())
                finally:
                    stop.set()
