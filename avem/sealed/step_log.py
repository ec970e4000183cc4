"""A run's `metrics.jsonl` with a checksum a line, kept beside it so that a line holds nothing but its step.

`metrics.crc32c` has the CRC-32C of each line. It is written first: a killed run leaves a checksum without a line, and
never the other way round. A log without that file is one from before checksums, and is read unchecked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.files import write_atomic
from avem.reading import parse_json, read_bytes
from avem.sealed.checksums import crc32c

SUMS = ".crc32c"
"""Suffix of the file of checksums, instead of the log's own."""


def append_step(path: Path, values: dict[str, Any]) -> None:
    """Add one step's object to a log.

    Args:
        path: The log, `metrics.jsonl` of a run.
        values: The step's numbers.
    """
    line = json.dumps(values)
    sums = path.with_suffix(SUMS)
    if sums.is_file() or not path.is_file():
        with sums.open("a", encoding="ascii") as file:
            file.write(crc32c(line.encode()) + "\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_steps(path: Path) -> list[dict[str, Any]]:
    """Read a log's objects; a line that was being written when its process died is left out.

    Raises:
        DataError: A line is not what was written, or no object; the message names it.
    """
    return [_parse(line, path) for line in _checked_lines(path)]


def trim_steps(path: Path, last: int) -> None:
    """Drop the lines of steps after `last`, and whatever a killed process left unfinished.

    Raises:
        DataError: A line is not what was written, or no object; the message names it.
    """
    if not path.is_file():
        path.with_suffix(SUMS).unlink(missing_ok=True)
        return
    kept = [line for line in _checked_lines(path) if _parse(line, path).get("step", 0) <= last]
    write_atomic(path.with_suffix(SUMS), "".join(crc32c(line) + "\n" for line in kept))
    write_atomic(path, b"".join(line + b"\n" for line in kept))


def _checked_lines(path: Path) -> list[bytes]:
    *lines, rest = read_bytes(path).split(b"\n")
    file = path.with_suffix(SUMS)
    sums = file.read_bytes().split(b"\n")[:-1] if file.is_file() else None
    if rest and sums is not None and len(sums) > len(lines):
        if sums[len(lines)] == crc32c(rest[:-1]).encode():  # the line is whole and another byte stands for its end
            raise _damaged(path, len(lines) + 1)
        if sums[len(lines)] == crc32c(rest).encode():
            lines.append(rest)
    for number, line in enumerate(lines, start=1):
        if sums is not None and (number > len(sums) or crc32c(line).encode() != sums[number - 1]):
            raise _damaged(path, number)
        if not _is_object(line, path):
            raise _damaged(path, number)
    return [line for line in lines if line.strip()]


def _is_object(line: bytes, path: Path) -> bool:
    try:
        return not line.strip() or isinstance(_parse(line, path), dict)
    except DataError:
        return False


def _parse(line: bytes, path: Path) -> Any:
    return parse_json(line, str(path), dict, surrogates=True)


def _damaged(path: Path, number: int) -> DataError:
    return DataError(
        f"{path} line {number} is damaged; restore the file from a copy, or remove it together with "
        f"{path.with_suffix(SUMS).name}."
    )
