"""Lists and numbers of things, as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """Items with commas, and "and" before the last.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
        ('a, b and c', 'a', '')
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def counted(count: int, what: str) -> str:
    """A number of things, the thing in the singular for one.

    Example:
        >>> counted(1, "clip"), counted(2, "clip"), counted(0, "clip")
        ('1 clip', '2 clips', '0 clips')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def have(count: int) -> str:
    """The verb of a number of things.

    Example:
        >>> have(1), have(2)
        ('has', 'have')
    """
    return "has" if count == 1 else "have"
