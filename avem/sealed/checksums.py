"""Checksums for what avem writes and later reads: single JSON records, and whole folders of files.

A *sealed* record is a JSON object whose last key, `check`, is the CRC-32C of the rest. A folder's `checksums.json`
names each of its files with its size and CRC-32C. Both catch a flipped bit, a lost block and an edited file; neither
is a signature. Records and folders from before checksums are read unchecked.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import google_crc32c

from avem.errors import DataError
from avem.files import write_atomic
from avem.guards.secrets import mask_distinct_json
from avem.reading import read_json

CHECK = "check"
"""Key of a sealed record's checksum; always the last."""
CHECKSUMS = "checksums.json"
"""File that lists the other files of its folder."""


def crc32c(data: bytes) -> str:
    """CRC-32C (Castagnoli) of some bytes, eight hexadecimal digits."""
    return f"{google_crc32c.value(data):08x}"


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its checksum as its last key, without the secrets that `write_atomic` would mask.

    Example:
        >>> seal({"id": "q1", "answer": "A"})
        {'id': 'q1', 'answer': 'A', 'check': 'bd67687e'}
    """
    body = mask_distinct_json({name: value for name, value in record.items() if name != CHECK})
    return {**body, CHECK: crc32c(_canonical(body))}


def unseal(record: Any, where: str) -> dict[str, Any]:
    """The record without its checksum, once that is found right. A record that was never sealed passes.

    Args:
        record: What JSON parsing gave.
        where: The file, and the line in it, for the message.

    Raises:
        DataError: It is not an object, or it is not what was sealed.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object; restore the file from a copy, or remove it.")
    if CHECK not in record:
        if has_nearly(record, CHECK):
            raise _damaged(where)
        return record
    body = {name: value for name, value in record.items() if name != CHECK}
    if record[CHECK] != crc32c(_canonical(body)):
        raise _damaged(where)
    return body


def sealed_lines(records: Iterable[dict[str, Any]]) -> str:
    """JSON Lines text of records, each sealed."""
    return "".join(json.dumps(seal(record), ensure_ascii=False) + "\n" for record in records)


def write_checksums(folder: Path) -> None:
    """Write the `checksums.json` of a folder over every file in it and below; call it last.

    Args:
        folder: A folder that is complete otherwise.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "crc32c": file_crc32c(path)}
        for path in paths
    }
    write_atomic(folder / CHECKSUMS, json.dumps(seal({"files": files}), indent=1) + "\n")


def check_folder(folder: Path, names: Collection[str] | None = None, ignored: Collection[str] = ()) -> None:
    """Compare a folder's files with its `checksums.json`; a folder without one passes.

    Args:
        folder: The folder.
        names: Files to compare, relative to the folder; None is all that are listed. Unlisted ones pass.
        ignored: Listed files that may have changed, or be gone, such as a page for readers.

    Raises:
        DataError: A file is missing or is not what was written; the message names it.
    """
    list_file = folder / CHECKSUMS
    if not list_file.is_file():
        return
    try:
        files = dict(unseal(read_json(list_file, dict, surrogates=True), str(list_file))["files"])
        expected = {name: (int(entry["bytes"]), str(entry["crc32c"])) for name, entry in files.items()}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(str(list_file)) from error
    for name, (size, crc) in expected.items():
        path = folder / name
        if name in ignored or (names is not None and name not in names):
            continue
        if not path.is_file() or path.stat().st_size != size or file_crc32c(path) != crc:
            raise _damaged(str(path))


def file_crc32c(path: Path) -> str:
    """CRC-32C of a file, read through a memory map: at the speed of the disk, without a copy."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return crc32c(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            checksum, step = 0, 1 << 26
            for start in range(0, len(view), step):
                checksum = google_crc32c.extend(checksum, view[start : start + step])
            return f"{checksum:08x}"


def has_nearly(record: dict[str, Any], key: str) -> bool:
    """Whether a record has a key with one character changed, as a flipped bit makes it; then its checksum is lost."""
    return any(len(name) == len(key) and sum(a != b for a, b in zip(name, key, strict=True)) == 1 for name in record)


def _canonical(body: dict[str, Any]) -> bytes:
    """One spelling of a JSON value whatever the order of keys; also for text that is not valid Unicode."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _damaged(where: str) -> DataError:
    return DataError(f"{where} is damaged: its checksum does not match. Restore it from a copy, or make it again.")
