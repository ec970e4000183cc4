"""One answer for a clip from the answers for its windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from avem.evaluate.predict.predictor import Answer

POOLING = {
    "logprobs": "mean over windows",
    "answers": "majority of the windows whose answer can be read, ties to the earliest window",
}
"""How windows are pooled, as results describe it."""


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


Choice = TypeVar("Choice")


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


def pool_answers(windows: Sequence[Choice | None]) -> Choice | None:
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
class PooledAnswer(Generic[Choice]):
    """A model's answer to one question on a clip, pooled over the clip's windows."""

    logprobs: tuple[float, ...] | None = None
    """Log-probability of each option in nats; None where the options were not scored."""
    reply: str | None = None
    """What the model wrote for the whole clip; of windows, the first reply that gives the pooled answer."""
    answer: Choice | None = None
    """What `reply` says; None where it can't be read."""
    failed: str = ""
    """Why there is no answer at all."""


def replies(answers: Sequence[Answer]) -> list[str]:
    """What a model wrote for a clip, or for each of its windows in the order of time."""
    return [answer.reply for answer in answers if answer.reply is not None]


def pool(
    answers: Sequence[Answer],
    read: Callable[[str], Choice | None],
    combine: Callable[[Sequence[float]], Sequence[float]] = tuple,
) -> PooledAnswer[Choice]:
    """One answer from those for a clip's windows; the answer for a whole clip is a list of one.

    Args:
        answers: One a window, in the order of time. Windows without an answer do not count.
        read: Finds the choice in a reply; None where it can't be read.
        combine: Turns the log-probabilities of what was scored into those of the options.
    """
    logprobs = [combine(answer.logprobs) for answer in answers if answer.logprobs is not None]
    written = replies(answers)
    choices = [read(reply) for reply in written]
    choice = pool_answers(choices)
    failed = [answer.failed for answer in answers if answer.failed]
    return PooledAnswer(
        logprobs=tuple(pool_logprobs(logprobs)) if logprobs else None,
        reply=written[choices.index(choice)] if written else None,
        answer=choice,
        failed="; ".join(dict.fromkeys(failed)) if len(failed) == len(answers) else "",
    )
