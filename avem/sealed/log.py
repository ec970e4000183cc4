"""Append-only logs of JSON Lines, each line sealed with its checksum: a damaged one is named and never used."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.reading import parse_json
from avem.sealed.checksums import CHECK, seal, unseal

logger = logging.getLogger(__name__)

NAMED_LINES = 10
"""Most damaged lines that a warning names by number."""


def sealed_line(record: dict[str, Any]) -> bytes:
    """One line of a log, its end included; also for text that is not valid Unicode."""
    return (json.dumps(seal(record), ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def intact_records(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a log whose lines are what was written; the others are named in one warning.

    Lines from before checksums have none and pass, as long as no sealed line stands before them.

    Args:
        lines: The log's whole lines.
        path: The log, for the messages.

    Yields:
        The line's number, from 1, and its record.

    Raises:
        DataError: No line is intact, so that this is no log of ours.
    """
    damaged: list[int] = []
    sealed = found = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = parse_json(line, f"{path} line {number}", dict, surrogates=True)
            record = unseal(content, f"{path} line {number}")
        except DataError:
            damaged.append(number)
            continue
        if CHECK in content:
            sealed = True
        elif sealed:
            damaged.append(number)
            continue
        found = True
        yield number, record
    if damaged and not found:
        raise DataError(
            f"{path} line {damaged[0]} is not what avem wrote, nor is any other line; remove the file, or give another "
            "folder with --out."
        )
    if damaged:
        warn_of_lines(path, damaged)


def is_torn(end: bytes, first_field: str) -> bool:
    """Whether the end of a file without a line end is the beginning of a line that a kill cut short.

    Args:
        end: What follows the last line end.
        first_field: The first field of the log's records.
    """
    start = f'{{"{first_field}": "'.encode()
    return end.startswith(start) or start.startswith(end)


def warn_of_lines(path: Path, numbers: list[int]) -> None:
    """Name damaged lines, whose content is asked for again."""
    shown = ", ".join(map(str, numbers[:NAMED_LINES])) + (", ..." if len(numbers) > NAMED_LINES else "")
    what = "line" if len(numbers) == 1 else "lines"
    logger.warning("%s: %s %s cannot be used, being damaged; what was there is asked again.", path, what, shown)
