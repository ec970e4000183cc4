"""Decoding workers that outlive crashes: ordered answers, bounded memory, a dead worker is one failed stream."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType

from avem.extract.decode.task import DecodedClip, DecodeTask, merge_parts, remaining_streams
from avem.processes import module_command

QUEUED_PER_WORKER = 2
"""Tasks a worker holds: the one it is at, and the next, so that it never waits for the parent."""
TIMEOUT_S = 330.0
"""A worker that is longer at one stream of a clip is taken to hang; a little longer than decoding's own limit."""
CLIPS_PER_WORKER = 20
WORKER_BYTES = 256 * 2**20
"""A worker that is past both is replaced: decord keeps the sound of every file it decodes. A fresh one has 70 MiB."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    held: deque[int] = field(default_factory=deque)
    """Positions of the tasks it has, the one it is at first."""
    since: float = 0.0
    answered: int = 0
    resident_bytes: int = 0


class DecodePool:
    """Decodes clips in worker processes; a context manager.

    Args:
        workers: Number of processes.
        timeout_s: How long one clip may take before its worker is killed.
    """

    def __init__(self, workers: int, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._workers = [_start() for _ in range(workers)]
        self._wake_receiver, self._wake_sender = Pipe(duplex=False)
        self._changed = threading.Condition()
        self._stopped = self._finished = self._exhausted = False
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._source: Iterator[DecodeTask] = iter(())
        self._window = workers
        self._handed = self._taken = 0
        self._tasks: dict[int, DecodeTask] = {}
        self._parts: dict[int, list[DecodedClip]] = {}
        self._answers: dict[int, DecodedClip] = {}
        self._retry: list[int] = []

    @property
    def workers(self) -> int:
        """Number of processes."""
        return len(self._workers)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._wake_sender.send_bytes(b".")
        if self._thread is not None:
            self._thread.join()
        for worker in self._workers:
            _stop(worker)
        self._wake_sender.close()
        self._wake_receiver.close()

    def map(self, tasks: Iterable[DecodeTask], window: int) -> Iterator[tuple[DecodeTask, DecodedClip]]:
        """Decode tasks and yield them with their answers, in the tasks' order; to be called once.

        Args:
            tasks: The work; taken from, on the pool's own thread, as the window allows.
            window: How many clips may be under way or wait to be taken, which bounds memory.
        """
        self._source, self._window = iter(tasks), max(window, len(self._workers))
        self._thread = threading.Thread(target=self._run, name="decode-pool", daemon=True)
        self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._taken in self._answers or self._finished)
                if self._taken not in self._answers:
                    break
                answer = self._answers.pop(self._taken)
                task = self._tasks.pop(self._taken)
                self._taken += 1
            self._wake_sender.send_bytes(b".")
            yield task, answer
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """Hand out tasks and collect answers; the body of the pool's thread."""
        try:
            while not self._stopped:
                self._hand_out()
                busy = [worker for worker in self._workers if worker.held]
                if self._exhausted and not busy and not self._retry:
                    break
                ready = wait([*(worker.connection for worker in busy), self._wake_receiver], timeout=1.0)
                if self._wake_receiver in ready:
                    self._wake_receiver.recv_bytes()
                for worker in busy:
                    if worker.connection in ready:
                        self._collect(worker)
                self._kill_hanging()
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread that consumes must raise it
            self._error = error
        with self._changed:
            self._finished = True
            self._changed.notify()

    def _hand_out(self) -> None:
        for depth in range(QUEUED_PER_WORKER):
            for index, worker in enumerate(self._workers):
                if len(worker.held) != depth:
                    continue
                if worker.answered >= CLIPS_PER_WORKER and worker.resident_bytes > WORKER_BYTES:
                    if worker.held:
                        continue
                    _stop(worker)
                    worker = self._workers[index] = _start()
                position = self._next_position()
                if position is None:
                    return
                worker.since = worker.since if worker.held else time.monotonic()
                worker.held.append(position)
                try:
                    worker.connection.send(self._rest(position))
                except ConnectionError:  # it died while idle; collecting from it says so
                    continue

    def _next_position(self) -> int | None:
        """A task that a dead worker held, or else the next new one while the window has room."""
        if self._retry:
            return self._retry.pop(0)
        if self._exhausted or self._handed >= self._taken + self._window:
            return None
        task = next(self._source, None)
        if task is None:
            self._exhausted = True
            return None
        self._tasks[self._handed] = task
        self._handed += 1
        return self._handed - 1

    def _rest(self, position: int) -> DecodeTask:
        """A task without the streams that are done."""
        task = self._tasks[position]
        return replace(task, wants=remaining_streams(task, len(self._parts.get(position, ()))))

    def _collect(self, worker: _Worker) -> None:
        try:
            answer, worker.resident_bytes = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._bury(worker, f"the decoder crashed ({_cause(worker.process)})")
            return
        worker.since = time.monotonic()
        position = worker.held[0]
        if self._take_part(position, answer):
            worker.answered += 1
            worker.held.popleft()

    def _take_part(self, position: int, part: DecodedClip) -> bool:
        """Keep what became of one stream of a clip; whether that was the last one, so that the clip is answered."""
        parts = self._parts.setdefault(position, [])
        parts.append(part)
        if len(parts) < len(self._tasks[position].wants):
            return False
        self._answer(position, merge_parts(self._parts.pop(position)))
        return True

    def _kill_hanging(self) -> None:
        for worker in list(self._workers):
            if worker.held and time.monotonic() - worker.since > self.timeout_s:
                worker.process.kill()
                self._bury(worker, f"decoding took longer than {self.timeout_s:g} s")

    def _bury(self, worker: _Worker, reason: str) -> None:
        """Replace a dead worker: the stream it was at has failed, all else that it held goes to another worker."""
        position = worker.held[0]
        done = len(self._parts.get(position, ()))
        at = remaining_streams(self._tasks[position], done)[0]
        failed = DecodedClip(video_error=reason) if at == "video" else DecodedClip(sound_error=reason)
        if self._take_part(position, failed):
            worker.held.popleft()
        self._retry = sorted([*self._retry, *worker.held])
        worker.held.clear()
        _stop(worker)
        self._workers[self._workers.index(worker)] = _start()

    def _answer(self, position: int, answer: DecodedClip) -> None:
        with self._changed:
            self._answers[position] = answer
            self._changed.notify()


def _start() -> _Worker:
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            module_command("avem.extract.decode.worker", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders are chatty about every oddity; what matters comes back as an error
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "DECORD_EOF_RETRY_MAX": "2048"},
        )
    finally:
        theirs.close()
    return _Worker(process, Connection(ours.detach()))


def _stop(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.wait()


def _cause(process: subprocess.Popen[bytes]) -> str:
    status = process.wait()
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
