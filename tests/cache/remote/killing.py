"""Processes killed while they talk to a bucket: at a counted request, so that no test depends on a machine's speed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from avem.tools.project.benchmarks.bucket import Bucket


def in_child(work: Callable[[], object]) -> int:
    """Run work in a forked process and return its id; it exits with status 0 only if the work ends without error."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def killed_at(bucket: Bucket, request: int, work: Callable[[], object], processes: int = 1) -> int:
    """Run work in forked processes and kill all of them before the bucket answers their n-th request.

    Args:
        bucket: Its fault is replaced meanwhile.
        request: Of all processes together; the first is 1.
        work: Run in each process.
        processes: How many work at once.

    Returns:
        How many were killed; the others ended without error before.
    """
    started, lock, seen, children = threading.Event(), threading.Lock(), 0, []

    def kill(method: str, path: str) -> None:
        nonlocal seen
        started.wait()
        with lock:
            seen += 1
            if seen == request:
                for child in children:
                    os.kill(child, signal.SIGKILL)

    bucket.fault = kill
    try:
        children += [in_child(work) for _ in range(processes)]
        started.set()
        statuses = [os.waitpid(child, 0)[1] for child in children]
    finally:
        bucket.fault = None
    assert all(os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0 for status in statuses)
    return sum(map(os.WIFSIGNALED, statuses))
