"""Log-probabilities that do not change while training: computed once, kept under everything they depend on.

`logprobs/<digest>/` holds `fingerprint.json` (the ingredients, whose canonical SHA-256 is the digest) and one
`scores-*.tsv` per process that added scores. A line is `crc32c <TAB> value <TAB> key`: the CRC-32C of the rest in
hexadecimal, the float64 in Python's shortest exact spelling, and the key. Lines are only ever added, whole batches at
a time; a line torn by a crash fails its check and is computed again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from avem.cache.disk.locks import unswept
from avem.errors import DataError, SettingError, StoreError
from avem.files import json_sha256, write_atomic
from avem.guards.disk import disk_reason
from avem.reading import parse_json, read_regular

logger = logging.getLogger(__name__)

SCORES = "logprobs"
"""Folder of all scores in a store."""
FINGERPRINT = "fingerprint.json"
DIGITS = 32
"""Digits of a fingerprint's SHA-256 that name its folder."""


class ScoreCache:
    """Scores under one fingerprint; any other ingredient is another cache.

    Threads may share one, and several processes may add to one store at once: each writes a file of its own and sees
    what the others had added when it was opened.

    Args:
        store_path: The feature store's folder.
        fingerprint: Everything the scores depend on, as JSON: digests of weights, tokenizer, prompt format, features.

    Raises:
        SettingError: The fingerprint is empty or no JSON.
        StoreError: The scores can't be read or the folder can't be made.
    """

    def __init__(self, store_path: str | Path, fingerprint: dict[str, Any]) -> None:
        if not fingerprint:
            raise SettingError("Scores need a fingerprint of what they depend on; an empty one would match everything.")
        try:
            self.digest = json_sha256(fingerprint)
        except (TypeError, ValueError) as error:
            raise SettingError(f"The fingerprint of scores must be JSON: {error}.") from error
        self.folder = Path(store_path) / SCORES / self.digest[:DIGITS]
        self._file = self._new_file()
        self._scores: dict[str, float] = {}
        self._guard = threading.Lock()
        try:
            kept = self.folder / FINGERPRINT
            if not (kept.is_file() and _is_fingerprint(kept.read_bytes(), self.folder.name)):
                with unswept(Path(store_path)):
                    write_atomic(kept, json.dumps(fingerprint, indent=2, sort_keys=True) + "\n")
            for path in sorted(self.folder.glob("scores-*.tsv")):
                self._load(path)
        except OSError as error:
            raise StoreError(f"Scores can't be kept in {self.folder}: {disk_reason(error)}.") from error

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, keys: Sequence[str]) -> npt.NDArray[np.float64]:
        """Scores of the keys, float64 [n], NaN where there is none."""
        return np.array([self._scores.get(key, math.nan) for key in keys], dtype=np.float64)

    def put(self, keys: Sequence[str], values: Iterable[float]) -> None:
        """Add scores, durable on return.

        Args:
            keys: As many as values.
            values: Log-probabilities (nats).

        Raises:
            SettingError: Numbers differ, a value is not finite, or a key holds a line break.
            StoreError: The disk is full or read-only.
        """
        numbers = [float(value) for value in values]
        if len(numbers) != len(keys):
            raise SettingError(f"{len(keys)} keys came with {len(numbers)} scores.")
        for key, number in zip(keys, numbers, strict=True):
            if not math.isfinite(number):
                raise SettingError(f"The score of {key} is {number}; only finite scores are kept.")
            if "\n" in key or "\r" in key:
                raise SettingError(f"The score key {key!r} holds a line break; keys are one line each.")
        data = b"".join(_line(key, number) for key, number in zip(keys, numbers, strict=True))
        try:
            with self._guard, self._file.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._file = self._new_file()  # the old one may end inside a line
            raise StoreError(f"Scores can't be kept in {self.folder}: {disk_reason(error)}.") from error
        self._scores.update(zip(keys, numbers, strict=True))

    def _new_file(self) -> Path:
        return self.folder / f"scores-{uuid.uuid4().hex[:12]}.tsv"

    def _load(self, path: Path) -> None:
        scores, lost = parse_scores(read_regular(path))
        self._scores |= scores
        if lost:
            logger.warning("%s holds %d torn or damaged scores; they are computed again.", path, len(lost))


def parse_scores(data: bytes) -> tuple[dict[str, float], list[bytes]]:
    """The scores of a file, and its lines that are not what was written."""
    scores: dict[str, float] = {}
    lost = []
    for line in data.split(b"\n"):
        check, _, rest = line.partition(b"\t")
        value, _, key = rest.partition(b"\t")
        if check == _check(rest) and key:
            scores[key.decode()] = float(value)
        elif line:
            lost.append(line)
    return scores, lost


def damaged_scores(folder: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Files of one fingerprint that are not what was written, each with what is wrong.

    A last line without an end was torn by a crash; it is not damage and counts as missing.

    Args:
        folder: The name of their folder, which is the fingerprint's digest.
        files: Name to content.
    """
    if FINGERPRINT not in files or not _is_fingerprint(files[FINGERPRINT], folder):
        yield FINGERPRINT, "does not have the digest that its folder is named after"
    for name, data in sorted(files.items()):
        if name.startswith("scores-"):
            lost = damaged_lines(data)
            if lost:
                yield name, f"has {len(lost)} damaged lines"


def damaged_lines(data: bytes) -> list[bytes]:
    """Lines of a file of scores that are not what was written, without a last one that was torn.

    A last line that is one byte too long is not torn: its end was damaged.
    """
    lost = parse_scores(data)[1]
    torn = bool(lost) and data.endswith(lost[-1]) and not parse_scores(lost[-1][:-1])[0]
    return lost[:-1] if torn else lost


def _is_fingerprint(data: bytes, folder: str) -> bool:
    """Whether JSON text is what a folder is named after."""
    try:
        return json_sha256(parse_json(data, folder, surrogates=True))[:DIGITS] == folder
    except DataError:
        return False


def _line(key: str, value: float) -> bytes:
    rest = f"{value!r}\t{key}".encode()
    return _check(rest) + b"\t" + rest + b"\n"


def _check(rest: bytes) -> bytes:
    return f"{google_crc32c.value(rest):08x}".encode()
