"""Is all of a file there? Its container's own lengths, compared with the bytes that are on the disk.

Containers that say how long they should be (MP4, Matroska, AVI, WAV, ...) may miss up to a tenth; the rest is decoded.
Those that do not (a live WebM, MPEG-TS, Ogg, ...) are cut off where they end inside one of their own units.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from avem.errors import MediaError
from avem.extract.decode import layouts
from avem.extract.decode.decoded import WHOLE_SHARE
from avem.text.numbers import short_number


def check_whole(path: Path) -> None:
    """Refuse a file of which too much is missing.

    Raises:
        MediaError: Less than nine tenths of it are there, or it ends in the middle of something.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            promised = _promised(file, size)
    except OSError as error:
        raise MediaError(f"{path} can't be read ({error.strerror}).") from error
    if promised.size is not None and size < WHOLE_SHARE * promised.size:
        raise MediaError(
            f"{path} can't be decoded: it is truncated, {size:,} of the {promised.size:,} bytes that its header "
            "promises are there; copy or download it again."
        )
    if promised.size is None and promised.breaks_off:
        raise MediaError(
            f"{path} can't be decoded: it is truncated, it ends inside {promised.breaks_off} and its header does not "
            "say how long it should be; copy or download it again."
        )
    if promised.missing:
        raise MediaError(
            f"{path} can't be decoded: it is truncated, its {promised.missing} is missing; copy or download it again."
        )


def _promised(file: BinaryIO, size: int) -> layouts.Promise:
    """What the container's header says of the file's length."""
    start = file.read(16)
    for matches, read in layouts.READERS:
        if matches(start):
            file.seek(0)
            return read(file, size)
    return layouts.Promise()


def check_length(path: Path, kind: str, found: float, promised: float | None) -> None:
    """Refuse a stream that is much shorter than its header says.

    Args:
        path: The file.
        kind: What is counted, such as `frames`.
        found: How much there is.
        promised: How much there should be; None or 0 where the header does not say.

    Raises:
        MediaError: It is less than nine tenths.
    """
    if promised and found < WHOLE_SHARE * promised:
        raise MediaError(
            f"{path} can't be decoded: it is truncated, {short_number(found, 6)} of the "
            f"{short_number(promised, 6)} {kind} that its header promises are there; copy or download it again."
        )


def check_decoded(path: Path, kind: str, decoded: int, expected: int) -> None:
    """Refuse a stream of which too much can't be decoded.

    Args:
        path: The file.
        kind: What is counted, such as `frames`.
        decoded: How many could be decoded.
        expected: How many should have been.

    Raises:
        MediaError: It is less than nine tenths.
    """
    if decoded < WHOLE_SHARE * expected:
        raise MediaError(f"{path} is damaged: only {decoded} of its {expected} {kind} can be decoded.")
