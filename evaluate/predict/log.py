"""The answer log: an append-only file of a model's answers, so that a resumed bench repeats none."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from avem.errors import DataError
from avem.guards.disk import writing
from avem.guards.output_kinds import BENCH
from avem.guards.outputs import make_folders
from avem.guards.ownership import Owner, opened
from avem.sealed.log import intact_records, is_torn, sealed_line

logger = logging.getLogger(__name__)


class AnswerLog:
    """An append-only file of what a model answered, keyed by everything the answer depends on.

    Every line carries its checksum: a damaged one is reported, and its prediction is made again. A kill leaves at most
    one torn line at the end, which the next opening cuts off. Older answers under other keys stay and are never used.
    Use as a context manager.
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
            logger.info("%s ends within a line; that prediction is made again.", self.path)
            self._file.truncate(whole)
        return records


@contextmanager
def kept_or_temporary(out_dir: Path | None) -> Iterator[Path]:
    """A bench's folder, or where nothing is to be kept a temporary one.

    Raises:
        SettingError: The folder holds something other than a bench.
        WriteError: It can't be written.
    """
    if out_dir is None:
        with tempfile.TemporaryDirectory() as spare:
            yield Path(spare)
    else:
        with opened(out_dir, BENCH, option="out_dir", alone=False):
            yield out_dir
