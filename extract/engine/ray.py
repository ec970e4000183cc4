"""`--engine ray`: one actor per GPU of a Ray cluster, or per machine where there are none.

The actors share the local engine's plan and the store's claims, so the store is the only thing they have to agree on:
it and the dataset lie on a file system that every machine has under the same path. An actor that dies leaves its
claimed shards pending; the others, and the actor that Ray starts to replace it, take them.

A cluster that this process started ends with it, even where it is killed: the kernel ends Ray's servers, the workers
end with them, and Ray's two agents end within about a minute, when they have given up reporting the loss.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from avem.cache import StreamSpec, StreamWriter
from avem.cache.disk.layout import METADATA
from avem.cache.records import OK
from avem.cache.remote.leases import LEASE_S
from avem.cache.remote.mirror import mirror_of
from avem.errors import MissingFileError, SettingError, StoreError
from avem.extract.decode.pool import DecodePool
from avem.extract.engine.device import FillReport, Job, Lines, Part, add_report, fill
from avem.extract.engine.encoders import device_list, load_encoders
from avem.extract.options import ExtractOptions, ExtractReport
from avem.progress import Stage, stage

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How often the driver looks what became of the actors, and at the ledger to show progress."""
LOSSES_PER_ACTOR = 3
"""Actors may die this many times their number before the run gives up."""
FRUITLESS_ROUNDS = 30
"""Rounds of `POLL_S` in which no shard is free, before the run gives up: locks of a lost machine take time to lapse."""


class Device:
    """Body of an actor: the encoders on one GPU or one machine's processor."""

    def __init__(self, options: ExtractOptions, workers: int, threads: int) -> None:
        self._options, self._workers, self._threads = options, workers, threads

    def load(self) -> dict[str, StreamSpec]:
        """Load the encoders; here rather than in `__init__`, whose errors Ray hides.

        Raises:
            AvemError: An encoder can't be used on this machine.
        """
        torch.set_num_threads(self._threads)  # as many as the local engine has, because the number decides the last bit
        (self._encoders,) = load_encoders(self._options, device_list(self._options))
        return self._encoders.specs(self._options)

    def fill(self, job: Job, part: Part) -> FillReport:
        """Fill every pending shard that no other actor has claimed.

        Raises:
            MissingFileError: The dataset or the store is not on this machine.
            StoreError: The store can't be written from this machine.
        """
        if job.url is not None:
            mirror = mirror_of(job.url)
            mirror.down()
            job = replace(job, store=mirror.folder)
        for path, there in ((job.root, job.root.is_dir()), (job.store, (job.store / METADATA).is_file())):
            if not there:
                raise MissingFileError(
                    f"{path} is not on {platform.node()}; with --engine ray the dataset and the store lie on a file "
                    "system that every machine has under the same path."
                )
        silent = Lines(*(Stage(name, len(job.rows), "rows", None) for name in ("decode", "encode", "write")))
        with DecodePool(self._workers) as pool:
            return fill(job, self._encoders, pool, part, silent, threading.Event())


@dataclass(slots=True)
class _Crew:
    """The actors by what they are doing; `busy` maps the reference of a call to its actor."""

    loading: dict[Any, tuple[Any, int]] = field(default_factory=dict)
    filling: dict[Any, tuple[Any, int]] = field(default_factory=dict)
    idle: list[tuple[Any, int]] = field(default_factory=list)
    losses: int = 0

    @property
    def actors(self) -> list[Any]:
        """Every actor that was started and has not died."""
        return [actor for actor, _ in (*self.loading.values(), *self.filling.values(), *self.idle)]


class RayEngine:
    """A Ray cluster: the one that `RAY_ADDRESS` names or that runs on this machine, or else a cluster of this machine.

    Args:
        options: Encoders, precision, and decoding processes of an actor.

    Raises:
        SettingError: Ray is not installed, or the options don't fit the cluster.
        AvemError: No actor can load the encoders.
    """

    def __init__(self, options: ExtractOptions) -> None:
        self._ray = _import_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            self._ray.init(log_to_driver=False, logging_level=logging.WARNING)
        try:
            self._plan_actors(options)
            self._crew = _Crew()
            for index in range(self._count):
                self._start_actor(index)
            self.specs: dict[str, StreamSpec] = {}
            self._wait_for_first()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._crew.actors if hasattr(self, "_crew") else ():
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def fill(self, job: Job, report: ExtractReport) -> None:
        """Fill the pending shards on all actors and enter what was done into the report.

        Raises:
            StoreError: The store can't be written, or actors die again and again.
            MissingFileError: A machine does not have the dataset or the store.
        """
        job = replace(job, root=job.root.absolute(), store=job.store.absolute())
        report.devices, report.workers = self._count, self._count * self._workers
        streams = job.streams()
        before = _succeeded(job, streams)
        left, fruitless = _pending(job, streams), 0
        with stage("extract", left, "rows") as line:
            while left:
                self._send_idle(job)
                self._look(report)
                now = _pending(job, streams)
                line.advance(left - now)
                fruitless = 0 if now < left or self._crew.filling else fruitless + 1
                left = now
                lapse = 0 if job.url is None else 2 * LEASE_S  # claims in a bucket end later than locks
                if fruitless > FRUITLESS_ROUNDS + lapse / POLL_S:
                    raise StoreError(f"{left} rows of {job.store} stay claimed by others; see what else writes to it.")
            while self._crew.filling:  # all is written; what they report is wanted
                self._look(report)
        report.encoded = {kind: count - before[kind] for kind, count in _succeeded(job, streams).items()}

    def _plan_actors(self, options: ExtractOptions) -> None:
        """How many actors there are, and what each gets."""
        if options.device not in ("auto", "cuda", "cpu"):
            raise SettingError(f"--engine ray takes --device auto, cuda or cpu, not {options.device}.")
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        processors = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = 0 if options.device == "cpu" else int(sum(node.get("GPU", 0) for node in nodes))
        if not processors or (options.device == "cuda" and not gpus):
            raise SettingError("The Ray cluster has no machine with what --device asks for.")
        self._count = gpus or len(processors)
        self._workers = options.workers or max(min(sum(processors) // self._count, *processors), 1)
        if self._workers > max(processors):
            raise SettingError(f"--workers {self._workers} is more than any machine of the Ray cluster has cores.")
        self._gpus = 1 if gpus else 0
        self._options = replace(
            options,
            device="cuda" if gpus else "cpu",
            video_encoder=_absolute(options.video_encoder),
            audio_encoder=_absolute(options.audio_encoder),
            model=None if options.model is None else _absolute(options.model),
        )

    def _start_actor(self, index: int) -> None:
        remote = self._ray.remote(Device).options(num_gpus=self._gpus, num_cpus=self._workers, max_restarts=0)
        actor = remote.remote(self._options, self._workers, torch.get_num_threads())
        self._crew.loading[actor.load.remote()] = (actor, index)

    def _wait_for_first(self) -> None:
        waiting_since = time.monotonic()
        while not self._crew.idle:
            self._look(None)
            if time.monotonic() - waiting_since > 30:
                logger.info("Waiting for Ray to start one of %d actors.", self._count)
                waiting_since = time.monotonic()

    def _send_idle(self, job: Job) -> None:
        """Have every idle actor go through the pending shards."""
        idle, self._crew.idle = self._crew.idle, []
        for actor, index in idle:
            reference = actor.fill.remote(job, Part(index, self._count))
            self._crew.filling[reference] = (actor, index)

    def _look(self, report: ExtractReport | None) -> None:
        """Wait a little for what the actors say."""
        calls = [*self._crew.loading, *self._crew.filling]
        done, _ = self._ray.wait(calls, num_returns=len(calls), timeout=POLL_S)
        for reference in done:
            loaded = reference in self._crew.loading
            actor, index = (self._crew.loading if loaded else self._crew.filling).pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause or error) from error
            except self._ray.exceptions.RayError as error:
                self._replace(index, error)
                continue
            self._crew.idle.append((actor, index))
            if loaded:
                self._check_specs(answer)
            elif report is not None:
                add_report(report, answer)

    def _check_specs(self, specs: dict[str, StreamSpec]) -> None:
        if self.specs and self.specs != specs:
            raise SettingError("The machines of the Ray cluster hold different encoders under the same name.")
        self.specs = specs

    def _replace(self, index: int, error: Exception) -> None:
        """Ask Ray for an actor to replace a dead one; it may come late or, where its machine is gone, never."""
        self._crew.losses += 1
        logger.warning("An actor died (%s); its shards go to others.", str(error).splitlines()[0])
        if self._crew.losses > LOSSES_PER_ACTOR * self._count:
            raise StoreError(f"Ray's actors died {self._crew.losses} times; see `ray logs` for why.") from error
        self._start_actor(index)


def _pending(job: Job, streams: dict[str, StreamWriter]) -> int:
    """Rows that are still to be written, over all streams."""
    return sum(len(shard.rows) for stream in streams.values() for shard in job.pending(stream))


def _succeeded(job: Job, streams: dict[str, StreamWriter]) -> dict[str, int]:
    """The job's rows that have features, by stream."""
    counts: dict[str, int] = {}
    for kind, stream in streams.items():
        statuses = stream.statuses()
        counts[kind] = sum(statuses[row] == OK for row in job.rows)
    return counts


def _absolute(name: str | Path) -> str | Path:
    """A local path as every machine's actors find it; hub ids as they are."""
    return Path(name).absolute() if Path(name).exists() else name


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SettingError("--engine ray needs Ray; `pip install avem[ray]` brings it.") from error
    return ray
