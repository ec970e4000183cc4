"""One answer for a clip from the answers for its windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

POOLING = {
    "logprobs": "mean over windows",
    "answers": "majority of the windows whose answer can be read, ties to the earliest window",
}
"""How windows are pooled, as results say it."""


def pooling_note(pooling: Mapping[str, Any]) -> str:
    """What a result's `pooling` says, in a sentence; empty where nothing was pooled."""
    for what in ("questions", "clips"):
        if number := pooling.get(what):
            subject = f"1 {what[:-1]} is" if number == 1 else f"{number} {what} are"
            return (
                f"{subject} answered over the windows of a clip: log-probabilities by their "
                f"{pooling['logprobs']}, written answers by the {pooling['answers']}."
            )
    return ""


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The windows of one clip: rows of a store, in the order of time."""

    rows: tuple[int, ...]


def pool_logprobs(windows: Sequence[Sequence[float]]) -> list[float]:
    """Mean log-probability of each option over a clip's windows.

    Args:
        windows: Log-probability of each option in nats, window by window; at least one window.

    Returns:
        One number an option.

    Example:
        >>> pool_logprobs([[-1.0, -3.0], [-2.0, -1.0]])
        [-1.5, -2.0]
    """
    return [sum(values) / len(windows) for values in zip(*windows, strict=True)]


def pool_answers(windows: Sequence[Answer | None]) -> Answer | None:
    """The answer that most windows give.

    A window whose answer can't be read (None) does not count. Where two answers are given equally often, the one that
    comes first in the clip wins.

    Args:
        windows: The answer for each window, in the order of time.

    Returns:
        The answer, or None where no window's answer can be read.

    Example:
        >>> pool_answers(["A", "B", None, "B"]), pool_answers(["B", "A"]), pool_answers([None])
        ('B', 'B', None)
    """
    counts = Counter(answer for answer in windows if answer is not None)
    return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True, slots=True)
class PooledAnswer(Generic[Answer]):
    """What a model said to one question on a clip, its windows pooled."""

    logprobs: tuple[float, ...] | None = None
    """Log-probability of each option in nats; None where the question was not asked this way."""
    reply: str | None = None
    """What the model wrote for the whole clip; of windows, the first reply that gives the pooled answer."""
    answer: Answer | None = None
    """What `reply` says; None where it can't be read."""
    failed: str = ""
    """Why there is no answer at all."""


def replies(record: Mapping[str, Any]) -> list[str]:
    """What a model wrote, of a clip in windows for each window in the order of time; see `pool_records`."""
    return [window["reply"] for window in record.get("windows", [record]) if "reply" in window]


def pool_records(
    record: Mapping[str, Any],
    read: Callable[[str], Answer | None],
    weigh: Callable[[Sequence[float]], Sequence[float]] = tuple,
) -> PooledAnswer[Answer]:
    """Pool what an answer log holds for one question asked in one way.

    Args:
        record: `{"logprobs": [...]}`, `{"reply": text}` or `{"failed": reason}`; of a clip in windows,
            `{"windows": [...]}` with one of these a window. Windows without an answer do not count.
        read: Finds the answer in a reply; None where it can't be read.
        weigh: Makes the options' log-probabilities of those in the log.
    """
    windows: Sequence[Mapping[str, Any]] = record.get("windows", [record])
    logprobs = [weigh(window["logprobs"]) for window in windows if "logprobs" in window]
    written = replies(record)
    answers = [read(reply) for reply in written]
    answer = pool_answers(answers)
    failed = [window["failed"] for window in windows if "failed" in window]
    return PooledAnswer(
        logprobs=tuple(pool_logprobs(logprobs)) if logprobs else None,
        reply=written[answers.index(answer)] if written else None,
        answer=answer,
        failed="; ".join(dict.fromkeys(failed)) if len(failed) == len(windows) else "",
    )
