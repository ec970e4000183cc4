"""Sizes in bytes as people read them."""

from __future__ import annotations

UNITS = ("kB", "MB", "GB", "TB", "PB")


def size_text(count: float, *, binary: bool = False) -> str:
    """A number of bytes in the unit that gives it one to three digits before the point.

    Args:
        count: The bytes.
        binary: Steps of 1024 (KiB, MiB, GiB), as memory is counted; disks and files count by 1000.

    Example:
        >>> size_text(0), size_text(999), size_text(12_300), size_text(4_210_000), size_text(22.3e9)
        ('0 bytes', '999 bytes', '12.3 kB', '4.21 MB', '22.3 GB')
    """
    size, step = float(count), 1024 if binary else 1000
    if round(size) < step:
        return f"{round(size)} byte{'' if round(size) == 1 else 's'}"
    for unit in UNITS:
        size /= step
        digits = 2 if size < 9.995 else 1 if size < 99.95 else 0
        if round(size, digits) < step or unit == UNITS[-1]:
            break
    return f"{size:,.{digits}f} {unit[0].upper()}i{unit[1:]}" if binary else f"{size:,.{digits}f} {unit}"
