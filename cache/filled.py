"""Streams that nobody computed: vectors of zeros in place of an encoder that was never released."""

from __future__ import annotations

from typing import Any

ZEROS = "zeros"
"""What such a stream is filled with, as its fingerprint says, and in the manifest the column of its decoder."""
FILLED = "filled"
"""Key of a fingerprint that says so."""


def zero_fingerprint(encoder: str, width: int) -> dict[str, Any]:
    """Fingerprint of a stream of zeros, the same whatever its clips are.

    Args:
        encoder: Second half of the stream's name.
        width: Numbers in a vector.

    Example:
        >>> zero_fingerprint("mae", 1024)
        {'encoder': 'mae', 'filled': 'zeros', 'width': 1024}
    """
    return {"encoder": encoder, FILLED: ZEROS, "width": width}
