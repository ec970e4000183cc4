"""An extraction that kills its own process at a chosen file operation, where a process server can import it."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from avem.extract import ExtractOptions, extract, pool, worker

torch.set_num_threads(1)


class ForkedProcess:
    """A decoding worker that was forked, which is cheaper than a fresh interpreter, as the pool sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return os.waitpid(self.pid, 0)[1]


def fork_worker() -> pool._Worker:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        worker.serve(Connection(theirs.detach()))
        os._exit(0)
    theirs.close()
    return pool._Worker(ForkedProcess(pid), Connection(ours.detach()))


def run(corpus: Path, store: Path, options: ExtractOptions, after: int, tally: Path) -> None:
    """Extract; die as soon as the store's files were touched `after` times (0: live); `tally` grows by a byte each."""
    seen = itertools.count(1)
    handle = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    pool._start = fork_worker

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "os.remove") and str(store) in str(arguments[0]):
            number = next(seen)
            os.write(handle, b".")
            if number == after:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    extract(corpus, store, options)
