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

from avem.extract import ExtractOptions, extract
from avem.extract.decode import pool, worker
from avem.extract.redecode import redecode

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


def run(corpus: Path | None, store: Path, options: ExtractOptions, after: int, tally: Path) -> None:
    """Extract, or decode a store again where no corpus is given, and die as soon as its files were touched so often.

    `after` 0 is to live; the file `tally` grows by a byte at each touch.
    """
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
    if corpus is None:
        redecode(store, options)
    else:
        extract(corpus, store, options)
