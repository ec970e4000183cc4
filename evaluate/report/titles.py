"""What pages and tables of results are called."""

from __future__ import annotations

from collections.abc import Sequence

from avem.evaluate.emorealm.questions import TASKS
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.hallucination.registry import YES_NO_SETS

RELEASED = 4000
"""Questions of the released EmoReAlM; with as many, the paper's figures are shown open."""


def benchmark_title(results: Sequence[BenchResult]) -> str:
    """Name of the benchmark; of questions of one's own, their file.

    The released EmoReAlM is known by its number of questions and its tasks, since other questions have its form too.

    Args:
        results: On the same questions, at least one.
    """
    first = results[0]
    if first.benchmark in YES_NO_SETS:
        return YES_NO_SETS[first.benchmark].title
    count = int(first.asked.get("questions", len(first.items)))
    if count >= RELEASED and all(item.question.task in TASKS for item in first.items):
        return "EmoReAlM"
    return f"Questions of {first.asked['file']}" if first.asked.get("file") else "Your own questions"
