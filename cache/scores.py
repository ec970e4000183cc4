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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from avem.errors import SettingError, StoreError
from avem.files import json_sha256, write_atomic

logger = logging.getLogger(__name__)


def score_key(row_id: str, kind: str, negative: str | None = None) -> str:
    """Key of one score: JSON of what distinguishes it within one fingerprint.

    Args:
        row_id: The preference row.
        kind: Which of its scores, such as `ref_w` or `text_vr`.
        negative: Clip id of the replaced media, where the score depends on it.
    """
    return json.dumps([row_id, kind, negative], ensure_ascii=False)


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
        self.folder = Path(store_path) / "logprobs" / self.digest[:32]
        self._file = self._new_file()
        self._scores: dict[str, float] = {}
        self._guard = threading.Lock()
        try:
            if not (self.folder / "fingerprint.json").is_file():
                write_atomic(self.folder / "fingerprint.json", json.dumps(fingerprint, indent=2, sort_keys=True) + "\n")
            for path in sorted(self.folder.glob("scores-*.tsv")):
                self._load(path)
        except OSError as error:
            raise StoreError(f"Scores can't be kept in {self.folder} ({error.strerror or error}).") from error

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, keys: Sequence[str]) -> npt.NDArray[np.float64]:
        """Scores of the keys, float64 [n], NaN where there is none."""
        return np.array([self._scores.get(key, math.nan) for key in keys], dtype=np.float64)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that have no score yet, each once, in order."""
        return [key for key in dict.fromkeys(keys) if key not in self._scores]

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
                raise SettingError(f"The score key {key!r} holds a line break; make keys with score_key.")
        data = b"".join(_line(key, number) for key, number in zip(keys, numbers, strict=True))
        try:
            with self._guard, self._file.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._file = self._new_file()  # the old one may end inside a line
            raise StoreError(f"Scores can't be kept in {self.folder} ({error.strerror or error}).") from error
        self._scores.update(zip(keys, numbers, strict=True))

    def _new_file(self) -> Path:
        return self.folder / f"scores-{uuid.uuid4().hex[:12]}.tsv"

    def _load(self, path: Path) -> None:
        torn = 0
        for line in path.read_bytes().split(b"\n"):
            check, _, rest = line.partition(b"\t")
            value, _, key = rest.partition(b"\t")
            if check == _check(rest) and key:
                self._scores[key.decode()] = float(value)
            elif line:
                torn += 1
        if torn:
            logger.warning("%s holds %d torn or damaged scores; they are computed again.", path, torn)


def _line(key: str, value: float) -> bytes:
    rest = f"{value!r}\t{key}".encode()
    return _check(rest) + b"\t" + rest + b"\n"


def _check(rest: bytes) -> bytes:
    return f"{google_crc32c.value(rest):08x}".encode()
