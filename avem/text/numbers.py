"""Numbers in sentences and progress lines."""

from __future__ import annotations

LARGE = 1e9
"""From here on, the power of ten is easier to read than all digits."""


def short_number(value: float, digits: int = 3) -> str:
    """A number with a few digits; all digits before the point where there are more than that.

    Args:
        value: The number.
        digits: Significant digits of small numbers.

    Example:
        >>> [short_number(value) for value in (0.1234, 12.345, 999.7, 1194.0, -1194.0, 2e12)]
        ['0.123', '12.3', '1,000', '1,194', '-1,194', '2e+12']
    """
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text and abs(value) < LARGE else text
