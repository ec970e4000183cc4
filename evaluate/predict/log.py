"""Answers: those that came from anywhere (files), and those a bench has already bought (an append-only log)."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from avem.errors import DataError, MissingFileError
from avem.files import read_json_lines
from avem.guards.disk import writing
from avem.guards.output_kinds import BENCH
from avem.guards.outputs import make_folders
from avem.guards.ownership import Owner, opened
from avem.reading import parse_json, read_bytes, read_text
from avem.sealed.checksums import CHECK, unseal
from avem.sealed.log import intact_records, is_torn, sealed_line

logger = logging.getLogger(__name__)

TEXT_FIELDS = ("prediction", "response", "output", "reply", "text", "answer")
"""Where an object with an `id` may keep the model's raw text; the first one present counts. `answer` comes last:
files that copy the question's fields have the right answer there."""


def read_answers(path: Path | str) -> dict[str, str]:
    """Read a model's raw answers.

    Args:
        path: A JSON object (id to text), a JSON list or JSON Lines of objects with `id` and one of `TEXT_FIELDS`, or a
            folder of `<id>.txt`, as the reference writes them.

    Returns:
        Question id to raw text.

    Raises:
        MissingFileError: There is no such file or folder.
        DataError: It holds something else, no answer at all, or two different answers for one id.
    """
    path = Path(path)
    if path.is_dir():
        pairs = [(file.stem, read_text(file)) for file in sorted(path.glob("*.txt"))]
    elif path.suffix == ".jsonl":
        pairs = read_json_lines(path, _pair)
    elif path.is_file():
        pairs = _read_json(path)
    else:
        raise MissingFileError(
            f"There are no answers at {path}; give a JSON or JSON Lines file or a folder of <id>.txt."
        )
    if not pairs:
        raise DataError(
            f"{path} holds no answers; expected {{id: text}}, objects with id and answer, or <id>.txt files."
        )
    answers: dict[str, str] = {}
    for name, text in pairs:
        if answers.setdefault(name, text) != text:
            raise DataError(f"{path} holds two different answers for {name}; keep one.")
    return answers


class AnswerLog:
    """An append-only file of what a model answered, keyed by everything the answer depends on.

    Every line carries its checksum: a damaged one is named and its question asked again. A kill leaves at most one torn
    line at the end, which the next opening cuts off; older answers under other keys stay and are never used. Use as a
    context manager.
    """

    def __init__(self, path: Path) -> None:
        """Open the log for reading and appending.

        Args:
            path: The file, `answers.jsonl` of a bench; made if missing.

        Raises:
            DataError: The file is something else: an intact line has no key, or no line is intact.
            SettingError: Another run has the log open.
            WriteError: It can't be written.
        """
        self.path = path
        make_folders(path.parent)
        self._owner = Owner(path.with_name(f".{path.name}.lock"), path)
        try:
            with writing(path):
                self._file = path.open("a+b", buffering=0)
            self._records = self._read()
        except BaseException:
            self._owner.close()
            raise

    def __enter__(self) -> AnswerLog:
        """The log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; every appended record is on disk already."""
        self._file.close()
        self._owner.close()

    def get(self, key: str) -> dict[str, Any] | None:
        """The record under a key, or None."""
        return self._records.get(key)

    def append(self, records: Mapping[str, dict[str, Any]]) -> None:
        """Add records (key to JSON object) and make them durable.

        Raises:
            WriteError: The disk took only a part, which is taken off again.
        """
        data = b"".join(sealed_line({"key": key, **record}) for key, record in records.items())
        end = self._file.seek(0, os.SEEK_END)
        with writing(self.path):
            try:
                while data:
                    data = data[self._file.write(data) :]
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(end)
                raise
        self._records |= records

    def _read(self) -> dict[str, dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        records = {}
        try:
            for number, record in intact_records(content[:whole].split(b"\n"), self.path):
                if not isinstance(key := record.pop("key", None), str):
                    raise DataError(f"{self.path} line {number} is not a kept answer; remove that line or the file.")
                records[key] = record
            if not (records or is_torn(content[whole:], "key")):
                raise DataError(f"{self.path} is not a log of kept answers; remove it, or give another --out.")
        except DataError:
            self._file.close()
            raise
        if whole < len(content):
            logger.info("%s ends within a line; that answer is asked again.", self.path)
            self._file.truncate(whole)
        return records


@contextmanager
def kept_or_spare(out_dir: Path | None) -> Iterator[Path]:
    """A bench's folder, or where nothing is to be kept a temporary one.

    Raises:
        SettingError: The folder holds something that is no bench.
        WriteError: It can't be written.
    """
    if out_dir is None:
        with tempfile.TemporaryDirectory() as spare:
            yield Path(spare)
    else:
        with opened(out_dir, BENCH, option="out_dir", alone=False):
            yield out_dir


def _read_json(path: Path) -> list[tuple[str, str]]:
    try:
        content = parse_json(read_bytes(path), str(path), pairs=_no_key_twice)
    except _KeyTwiceError as error:
        raise DataError(f"{path} holds two different answers for {error}; keep one.") from error
    if isinstance(content, dict):
        wrong = next((name for name, text in content.items() if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"{path}: the answer of {wrong} is not text.")
        return list(content.items())
    if not isinstance(content, list):
        raise DataError(f"{path} should hold an object {{id: text}} or a list of objects with id and answer.")
    pairs = []
    for number, entry in enumerate(content, start=1):
        try:
            pairs.append(_pair(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} entry {number} is not an object with id and answer ({error}).") from error
    return pairs


class _KeyTwiceError(Exception):
    """An object with one key twice, which Python's reader would pass over."""


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise _KeyTwiceError(name)
    return found


def _pair(entry: dict[str, Any]) -> tuple[str, str]:
    if "key" in entry and CHECK in entry:  # a line of a bench's own log
        entry = unseal(entry, "a kept answer")
    field = next((field for field in TEXT_FIELDS if field in entry), "")
    if field == "answer" and "choices" in entry:
        raise ValueError("it is a question of the benchmark with its right answer, not a model's answer")
    text = entry.get(field)
    if not isinstance(text, str):
        raise ValueError(f"there is no text in any of {', '.join(TEXT_FIELDS)}")
    return str(entry["id"]), text
