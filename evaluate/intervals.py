"""How an interval is shown beside its number, and when there are too few items for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FEWEST = 10
"""Items that an interval needs. Of two questions, both right, every resample is the same, and the interval says
nothing: [100, 100]."""
TOO_FEW = "(too few)"
NOTE = f"{TOO_FEW}: an interval needs at least {FEWEST} questions or clips."


def interval_text(edges: Sequence[float | None] | None, items: int, digits: int = 1, *, signed: bool = False) -> str:
    """An interval as it follows its number, with a blank in front; empty where none was computed.

    Args:
        edges: Its low and high end; None, or ends that are None, where there is none.
        items: Questions or clips that the number is of.
        digits: After the point.
        signed: Whether positive ends have a plus.

    Example:
        >>> interval_text((80.06, 90.2), 120), interval_text((100.0, 100.0), 2), interval_text(None, 2)
        (' [80.1, 90.2]', ' (too few)', '')
    """
    if edges is None or any(edge is None for edge in edges):
        return ""
    if items < FEWEST:
        return f" {TOO_FEW}"
    sign = "+" if signed else ""
    return f" [{', '.join(f'{edge:{sign}.{digits}f}' for edge in edges)}]"


def drawn(edges: Sequence[float | None] | None, items: int) -> tuple[float, float] | None:
    """The interval that a page draws; None where none was computed, or of too few items.

    Example:
        >>> drawn((80.06, 90.2), 120), drawn((0.0, 100.0), 3), drawn((None, None), 120)
        ((80.06, 90.2), None, None)
    """
    if edges is None or items < FEWEST:
        return None
    low, high = edges
    return None if low is None or high is None else (low, high)


def range_text(edges: Sequence[float | None] | None, items: int, digits: int = 1, *, signed: bool = False) -> str:
    """An interval as pages write it below its number; empty where none was computed.

    Args:
        edges: Its low and high end; None, or ends that are None, where there is none.
        items: Questions or clips that the number is of.
        digits: After the point.
        signed: Whether ends have their sign.

    Example:
        >>> range_text((80.06, 90.2), 120), range_text((-100.0, 100.0), 3), range_text(None, 3)
        ('80.1 to 90.2', 'too few', '')
    """
    if edges is None or any(edge is None for edge in edges):
        return ""
    if (found := drawn(edges, items)) is None:
        return TOO_FEW.strip("()")
    sign = "+" if signed else ""
    return " to ".join(f"{edge:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}") for edge in found)


def few_note(rows: Iterable[Iterable[str]], note: str = "") -> str:
    """A table's note, and what `TOO_FEW` means if a cell says so."""
    few = any(TOO_FEW in cell for row in rows for cell in row)
    return " ".join(filter(None, [note, NOTE if few else ""]))
