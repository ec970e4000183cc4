"""Files that are whole or not there: atomic writes, hashes, and JSON Lines with line-numbered errors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from avem.errors import DataError, SettingError
from avem.reading import parse_json, read_bytes

Record = TypeVar("Record")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that readers, and a crash, see the old content or the new, never a part.

    Args:
        path: Where to write; its folder is made if missing.
        data: The whole content; text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def claim_directory(directory: Path, name: str, settings: Mapping[str, Any], what: str) -> None:
    """Make a folder the home of something made by these settings, or refuse one that is not.

    Args:
        directory: The folder; made if missing.
        name: The file in it that keeps the settings, as JSON.
        settings: What decides the folder's content.
        what: What the folder is, as a noun: `corpus`.

    Raises:
        DataError: The settings that it keeps can't be read.
        SettingError: The folder holds something else, or the same made by other settings, or it is a file.
    """
    path = directory / name
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}); give a new folder with --out.") from error
        if known != settings:
            raise SettingError(f"{directory} holds a {what} of other settings; give another folder with --out.")
    elif directory.exists() and not directory.is_dir():
        raise SettingError(f"{directory} is a file; give a folder with --out.")
    elif directory.exists() and any(directory.iterdir()):
        raise SettingError(f"{directory} holds something that is not a {what}; give a new folder with --out.")
    else:
        write_atomic(path, json.dumps(settings))


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, as `fsync` does for a file's content."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_directory(directory: Path, fill: Callable[[Path], None]) -> None:
    """Build a directory beside its place and rename it there whole, in place of any older one.

    Args:
        directory: The final place.
        fill: Writes the content into the empty directory it is given.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    fresh = directory.with_name(f".{directory.name}.{mark}.tmp")
    old = directory.with_name(f".{directory.name}.{mark}.old")
    fresh.mkdir()
    try:
        fill(fresh)
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    sync_directory(directory.parent)


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json_lines(path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Write objects one a line, atomically."""
    write_atomic(path, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects))


def read_json_lines(path: Path, parse: Callable[[dict[str, Any]], Record]) -> list[Record]:
    """Read objects one a line and parse each; blank lines are skipped.

    Args:
        path: The file.
        parse: Makes a record of one object; a `KeyError`, `TypeError` or `ValueError` it raises becomes a `DataError`.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line is not an object or `parse` refuses it; the message names the line.
    """
    return list(_records(path, parse))


def _records(path: Path, parse: Callable[[dict[str, Any]], Record]) -> Iterator[Record]:
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        item = parse_json(line, f"{path} line {number}", dict)
        try:
            yield parse(item)
        except KeyError as error:
            raise DataError(f"{path} line {number} lacks the field {error}.") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} line {number}: {error}.") from error
