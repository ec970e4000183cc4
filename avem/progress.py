"""One way to show long work: a line a stage with rate, time left and failures, on standard error."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from avem.text.escaping import one_line

logger = logging.getLogger(__name__)

LOG_EVERY_S = 15.0
"""How often a stage reports where there is no terminal to draw on."""


_silent = False


def be_silent() -> None:
    """Show nothing from this process: the one that started it shows how far the work is."""
    global _silent
    _silent = True


class Stage:
    """One stage of long work; `advance` it as items are done, from any thread."""

    def __init__(self, name: str, total: int, unit: str, bar: Progress | None) -> None:
        self.name, self.total, self.unit = one_line(name), total, unit
        self.done = self.failures = self._earlier = 0
        self._bar = bar
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        if bar is not None:
            self._task = bar.add_task(self.name, total=total, rate="", note="")
        self._start = self._reported = time.monotonic()

    def go_on_after(self, count: int) -> None:
        """Count items that an earlier run did: they are done, and say nothing about how fast this one is."""
        self.done = self._earlier = count
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, completed=count)

    def advance(self, count: int = 1, *, failures: int = 0, note: str = "") -> None:
        """Count items as done (failures among them) and show a note, such as the current loss."""
        note = one_line(note) if note else ""
        with self._lock:
            self.done += count
            self.failures += failures
        rate = (self.done - self._earlier) / max(time.monotonic() - self._start, 1e-9)
        failed = f" {self.failures} failed" if self.failures else ""
        amount, time_unit = _shown(rate)
        speed = f"{amount} {self.unit}/{time_unit}" if self.unit else ""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{speed}{failed}", note=note)
        elif time.monotonic() - self._reported > LOG_EVERY_S:
            self._reported = time.monotonic()
            left_s = (self.total - self.done) / max(rate, 1e-9)
            timing = f" {self.unit}, {amount}/{time_unit}, {left_s:.0f} s left" if self.unit else ""
            logger.info("%s %d/%d%s%s %s", self.name, self.done, self.total, timing, failed, note)


def _shown(rate: float) -> tuple[str, str]:
    """A rate per second as a number with one decimal that is not 0.0, and the time that it is of.

    Example:
        >>> _shown(0.5), _shown(1 / 48), _shown(1 / 900)
        (('0.5', 's'), ('1.2', 'min'), ('4.0', 'h'))
    """
    for seconds, unit in ((1, "s"), (60, "min")):
        if rate * seconds >= 0.1:
            return f"{rate * seconds:.1f}", unit
    return f"{rate * 3600:.1f}", "h"


@contextmanager
def stage(name: str, total: int, unit: str = "clips") -> Iterator[Stage]:
    """Show a stage while the block runs: a live bar on a terminal, a log line now and then elsewhere.

    Args:
        name: What is done.
        total: Items.
        unit: What they are; empty for items so different that a rate and the time left say nothing.
    """
    with stages((name, total, unit)) as (only,):
        yield only


@contextmanager
def stages(*lines: tuple[str, int, str]) -> Iterator[Sequence[Stage]]:
    """Show stages that run at the same time, each given as name, total and unit, while the block runs."""
    if _silent or not sys.stderr.isatty():
        yield [Stage(*line, None) for line in lines]
        return
    columns = [
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        *([TimeRemainingColumn()] if any(unit for _, _, unit in lines) else []),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield [Stage(*line, bar) for line in lines]
