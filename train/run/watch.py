"""What a run shows and records while it trains: speeds, share of the device's peak, time left, metrics, trackers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from accelerate import Accelerator

from avem.progress import Stage
from avem.text.numbers import short_number
from avem.train.packing.epoch import StepPlan
from avem.train.run.directory import RunDirectory

SHOWN = ("loss", "margin", "accuracy")
"""Metrics on the progress line."""
REWARDS = {"reward_w": "w", "reward_vr": "vr", "reward_er": "er", "reward_irr": "irr", "reward_l": "rejected"}
"""Rewards on the progress line, and how they are called there; `rejected` where there is one rejected answer."""

Item = TypeVar("Item")


class Watch:
    """Times the steps of a run and reports each on the progress line, in `metrics.jsonl` and to the trackers.

    Args:
        run: Holds `metrics.jsonl`.
        accelerator: Only the main process reports; trackers hang on it.
        steps: How many steps lie ahead.
        peak: Operations a second that all devices together could do; 0 where it is unknown.
    """

    def __init__(self, run: RunDirectory, accelerator: Accelerator, steps: int, peak: float) -> None:
        self._run, self._accelerator, self._steps, self._peak = run, accelerator, steps, peak
        self._done, self._waited = 0, 0.0
        self._began = self._last = time.monotonic()

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hand items on and count the time spent waiting for them."""
        iterator = iter(items)
        while True:
            start = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.monotonic() - start
            yield item

    def report(self, done: int, plan: StepPlan, metrics: Mapping[str, float], operations: float, bar: Stage) -> None:
        """Report a step.

        Args:
            done: Steps done, this one included.
            plan: The step.
            metrics: What it measured.
            operations: Floating-point operations of the step.
            bar: The progress line.
        """
        speed = self._speeds(plan, operations)
        if not self._accelerator.is_main_process:
            return
        self._run.log({"step": done, "rows": len(plan.rows), "tokens": plan.tokens, **metrics, **speed})
        self._accelerator.log({**metrics, **speed}, step=done)
        shown = [f"{name} {short_number(metrics[name], 4)}" for name in SHOWN if name in metrics]
        shown += shown_rewards(metrics)
        shown += [f"{short_number(speed['rows_per_s'])} rows/s", f"{speed['tokens_per_s']:,.0f} tokens/s"]
        if self._peak:
            shown.append(f"{speed['share_of_peak']:.0%} of peak")
        bar.advance(note=" ".join(shown))

    def _speeds(self, plan: StepPlan, operations: float) -> dict[str, float]:
        """Of the step just done, and the time left at the average speed so far."""
        now = time.monotonic()
        elapsed, self._last = max(now - self._last, 1e-9), now
        waited, self._waited = self._waited, 0.0
        self._done += 1
        left = (now - self._began) / self._done * (self._steps - self._done)
        return {
            "rows_per_s": round(len(plan.rows) / elapsed, 3),
            "tokens_per_s": round(plan.tokens / elapsed, 1),
            "share_of_peak": round(operations / elapsed / self._peak, 4) if self._peak else 0.0,
            "share_waiting": round(waited / elapsed, 5),
            "time_left_s": round(left, 1),
        }


def shown_rewards(metrics: Mapping[str, float]) -> list[str]:
    """Rewards of the chosen and of each rejected answer for the progress line.

    Example:
        >>> shown_rewards({"reward_w": 0.25, "reward_l": -1.0, "reward_vr": -1.5, "reward_er": -0.5})
        ['rewards w 0.25 vr -1.5 er -0.5']
    """
    single = "reward_vr" not in metrics and "reward_er" not in metrics and "reward_irr" not in metrics
    own = [f"{called} {short_number(metrics[name])}" for name, called in REWARDS.items() if name in metrics]
    return [f"rewards {' '.join(own if single else own[: -1 if 'reward_l' in metrics else None])}"] if own else []


SPEEDS = ("rows_per_s", "tokens_per_s", "share_of_peak", "share_waiting", "time_left_s")
"""Metrics that depend on the machine and its load; all others are the same each time a run is repeated."""
