"""The option that a model finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence


def likeliest(values: Sequence[float]) -> int | None:
    """The position of the highest value; None where two options share it.

    A model that scores two options exactly alike has chosen neither, whichever comes first. This happens where its
    tokenizer reads both as the same unknown token.

    Args:
        values: Log-probability of each option, in nats; at least one.

    Example:
        >>> likeliest([-3.0, -1.0, -2.0])
        1
        >>> likeliest([-1.0, -1.0, -2.0]) is None
        True
    """
    best = max(values)
    return None if values.count(best) > 1 else values.index(best)
