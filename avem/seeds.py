"""Random choices that depend on their arguments alone: the same on every machine, in every version and order."""

from __future__ import annotations

import hashlib


def draw(seed: int, *parts: object, choices: int) -> int:
    """A number below `choices`, decided by the seed and the parts.

    Args:
        seed: Seed of the run.
        parts: What the choice is about, such as a row's id; their texts count.
        choices: How many numbers there are to choose from, at least 1.

    Example:
        >>> draw(0, "row-1", choices=10) == draw(0, "row-1", choices=10)
        True
    """
    digest = hashlib.blake2b("\x1f".join(map(str, (seed, *parts))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % choices
