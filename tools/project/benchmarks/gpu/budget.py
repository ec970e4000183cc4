"""Parts of a run in order of importance, as many as its time allows."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from avem.tools.project.benchmarks.gpu.results import Outcome, Results, Status, Table

START_SHARE = 0.3
"""Share of the matmul peak that the first prediction assumes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to measure."""

    name: str
    run: Callable[[], Table | None]
    cost: Callable[[], float]
    """Floating-point operations, asked when the part's turn comes."""
    needs: str = ""
    """Another part that has to have run."""
    like: str = ""
    """Another part that took about as long, for what computes little; counts instead of the cost."""
    ratio: float = 1.0
    """How many times as long."""


@dataclass(slots=True)
class Budget:
    """Runs parts while they fit; how fast the machine is follows from the part before.

    Args:
        seconds: All the time there is.
        peak: Operations a second of a large matrix product.
        clock: Seconds, for tests.
    """

    seconds: float
    peak: float
    clock: Callable[[], float] = time.perf_counter
    started: float = field(init=False)
    speed: float = field(init=False)
    """Operations a second of the last part, everything that it did counted in."""

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.speed = START_SHARE * self.peak

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (self.clock() - self.started)

    def run(self, parts: Sequence[Part], results: Results) -> None:
        """Run what fits, and write the results after each part.

        Args:
            parts: The most important first.
            results: Takes what each gives, and the reason where it gives nothing.
        """
        for part in parts:
            results.add(self._outcome(part, results))
            results.write()

    def _outcome(self, part: Part, results: Results) -> Outcome:
        if part.needs and not results.ran(part.needs):
            return Outcome(part.name, Status.NOT_RUN, f"it needs {part.needs}")
        try:
            return self._measured(part, results)
        except OutOfTime:
            outcome = Outcome(part.name, Status.NOT_RUN, "stopped: it took longer than predicted, and time was up")
        except Exception as error:  # noqa: BLE001 - a part that fails leaves the others their turn
            status = Status.NO_MEMORY if is_out_of_memory(error) else Status.FAILED
            first = next(iter(str(error).splitlines()), "")
            outcome = Outcome(part.name, status, f"{type(error).__name__}: {first}")
        release()  # after the error is gone, whose frames held tensors
        return outcome

    def _measured(self, part: Part, results: Results) -> Outcome:
        cost, left = part.cost(), self.left
        alike = results.seconds(part.like)
        predicted = cost / self.speed if alike is None else part.ratio * alike
        if predicted > left or left <= 0:
            reason = f"{predicted:.0f} s predicted and {max(left, 0):.0f} s left"
            return Outcome(part.name, Status.NOT_RUN, reason, predicted)
        start = self.clock()
        with time_limit(left):
            table = part.run()
        taken = self.clock() - start
        if cost:
            self.speed = cost / max(taken, 1e-9)
        return Outcome(part.name, Status.RAN, "", predicted, taken, table)


class OutOfTime(BaseException):
    """A part used up the time; no library may take it for a failure of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in a block that takes longer; does nothing on a platform without interval timers."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left; torch has several words for it."""
    said = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


def release() -> None:
    """Give freed memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
