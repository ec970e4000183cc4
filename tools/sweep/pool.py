"""Independent pieces of work in several processes, each with its share of the processor's threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import torch

from avem.errors import AvemError
from avem.processes import end_with_parent
from avem.progress import be_silent, stage

logger = logging.getLogger(__name__)

Job = TypeVar("Job", bound=Hashable)
Found = TypeVar("Found")


def do_all(work: Callable[[Job], Found], jobs: Sequence[Job], workers: int, name: str) -> dict[Job, Found]:
    """Do every job; the first that fails stops those that have not begun.

    Args:
        work: Does one job; with several workers it is pickled, and so are jobs and what is found.
        jobs: Distinct jobs.
        workers: Processes; 1 does everything in this one, its own progress shown.
        name: What the progress line calls them.

    Returns:
        What each job found.

    Raises:
        AvemError: A process ended before its job did.
    """
    found: dict[Job, Found] = {}
    if workers == 1:
        for number, job in enumerate(jobs, 1):
            logger.info("%s %d of %d", name, number, len(jobs))
            found[job] = work(job)
        return found
    threads = max(torch.get_num_threads() // workers, 1)
    with (
        stage(name, len(jobs), "jobs") as bar,
        ProcessPoolExecutor(workers, get_context("spawn"), _begin, (threads,)) as pool,
    ):
        futures = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                found[futures[future]] = future.result()
                bar.advance()
        except BrokenProcessPool as error:
            raise AvemError(
                f"A process that did a {name} ended, perhaps because memory ran out; run the command again for what "
                "is left, and needs less with fewer --workers."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return found


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    be_silent()
    end_with_parent()
