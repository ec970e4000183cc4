"""What a run did, in a line at its end, and a word before it begins where it can hardly change anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from avem.sealed.step_log import read_steps
from avem.text.lists import counted

LEAST_MOVE = 5e-5
"""Steps times learning rate below which a model hardly changes: AdamW moves a weight by at most about the learning
rate in a step. The paper's 651 steps at 5e-7 make 3.3e-4."""
SHOWN = {"loss": "loss", "margin": "margin", "accuracy": "pairs the right way round"}
"""Metrics of the summary, and what they are called there."""
PART = 10
"""The first and the last tenth of the steps are compared."""


def faint_hint(steps: int, learning_rate: float) -> str:
    """A sentence where a run is too short, or its learning rate too low, to change a model; else empty.

    Args:
        steps: Optimiser steps.
        learning_rate: The highest.

    Example:
        >>> faint_hint(651, 5e-7)
        ''
        >>> faint_hint(2, 5e-7)
        '2 optimiser steps at a learning rate of 5e-07 change next to nothing; for few rows, try --set \
learning_rate=1e-4 and --set epochs=10.'
    """
    if steps * learning_rate >= LEAST_MOVE:
        return ""
    number = counted(steps, "optimiser step")
    return (
        f"{number} at a learning rate of {learning_rate:g} change{'s' if steps == 1 else ''} next to nothing; for few "
        "rows, try --set learning_rate=1e-4 and --set epochs=10."
    )


def run_outcome(metrics: Path) -> str:
    """How the metrics of a run moved: the mean of its first steps and of its last.

    Args:
        metrics: The run's `metrics.jsonl`.

    Returns:
        A sentence; empty where no step is recorded.
    """
    steps = read_steps(metrics) if metrics.is_file() else []
    if not steps:
        return ""
    number = counted(len(steps), "step")
    rows = sum(int(step.get("rows", 0)) for step in steps)
    moved = [said for name, called in SHOWN.items() if (said := _moved(steps, name, called))]
    return f"{number}, {rows} rows counting every epoch: {', '.join(moved)}."


def _moved(steps: Sequence[Mapping[str, Any]], name: str, called: str) -> str:
    values = [step[name] for step in steps if isinstance(step.get(name), int | float)]
    if not values:
        return ""
    part = max(1, len(values) // PART)
    first, last = fmean(values[:part]), fmean(values[-part:])
    form = ".0%" if name == "accuracy" else ".4g"
    if len(values) == 1:
        return f"{called} {last:{form}}"
    if f"{first:{form}}" == f"{last:{form}}":
        return f"{called} still {last:{form}}"
    return f"{called} {first:{form}} -> {last:{form}}"
