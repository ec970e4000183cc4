"""Answer orders: a question with its options rotated, so that a liking for a letter is told from one for an answer.

All of EmoReAlM's yes/no questions are "(A) Yes (B) No", so a bias to the first letter and a bias to Yes are one. Scored
in every rotation and averaged, each option stands at each letter once, and a liking for a letter cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from avem.evaluate.emorealm.questions import letters, option_text
from avem.records import Question

Order = tuple[int, ...]
"""Position to the option that stands there."""


def rotations(count: int) -> list[Order]:
    """Every rotation of some options, the file's own order first.

    Example:
        >>> rotations(3)
        [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    """
    return [tuple((start + position) % count for position in range(count)) for start in range(count)]


def reordered(question: Question, order: Order) -> Question:
    """The question with its options in another order, lettered anew; the answer's letter moves with its option.

    Example:
        >>> q = Question("7", "7.mp4", "modality_agreement", "Do they agree?", ("(A) Yes", "(B) No"), "A")
        >>> reordered(q, (1, 0)).choices, reordered(q, (1, 0)).answer
        (('(A) No', '(B) Yes'), 'B')
    """
    texts = [option_text(choice) for choice in question.choices]
    known = letters(question)
    return replace(
        question,
        choices=tuple(f"({letter}) {texts[number]}" for letter, number in zip(known, order, strict=True)),
        answer=known[order.index(known.index(question.answer.upper()))],
    )


def in_file_order(values: Sequence[float], order: Order) -> list[float]:
    """Numbers of options as they were shown, put back into the file's order."""
    found = [0.0] * len(order)
    for value, number in zip(values, order, strict=True):
        found[number] = float(value)
    return found


def mean_logprobs(shown: Sequence[Sequence[float]]) -> list[float]:
    """Mean over orders of each option's log-probability among the options.

    Every order is normalised first: an order that the model finds odd as a whole counts no more than another.

    Args:
        shown: Log-probability of each option in nats, order by order, in the file's order of options.
    """
    values = np.array(shown, dtype=np.float64)
    values = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    return [float(value) for value in values.mean(axis=0)]


def letter_in_file(letter: str | None, order: Order, question: Question) -> str | None:
    """The file's letter of an option that was named by the letter it was shown with."""
    known = letters(question)
    return None if letter is None or letter not in known else known[order[known.index(letter)]]
