"""Lists as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """Items with commas, and "and" before the last.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
        ('a, b and c', 'a', '')
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
