"""Files for a provider's batch service: requests to hand in, and results to take back into the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from avem.endpoint.chat_replies import parse_json, reply_of
from avem.files import write_atomic
from avem.guards.secrets import mask
from avem.reading import open_regular
from avem.text.escaping import file_name
from avem.tools.prefs.asking.journal import Journal

logger = logging.getLogger(__name__)

MOST_REQUESTS = 50_000
MOST_BYTES = 100_000_000
"""Limits of one file, which the common batch services share."""
LONGEST_LINE = 128 * 2**20
"""Most bytes of a line that are read; a request holds the clip's pictures and sound."""


class Batch:
    """A folder of `requests-*.jsonl` to hand in, and of results that the user puts into its `results/`.

    The files have the form of OpenAI's batch service: `custom_id, method, url, body` a line, and in the results
    `custom_id, response, error`.

    Args:
        folder: The folder.
        journal: Replies are taken into it.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder, self.results = folder, folder / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self._fresh: list[bytes] = []
        self._bytes = 0
        self.written: list[Path] = []
        """Files that this run wrote."""
        failed = self._take_results(journal)
        handed_in = {identity for _, entry in _entries(folder.glob("requests-*.jsonl")) if (identity := _id(entry))}
        self._waiting = {name for name in handed_in if journal.reply(name) is None} - failed

    def _take_results(self, journal: Journal) -> set[str]:
        """Log every reply that is new; returns the requests that the service failed, which may be handed in again."""
        failed: dict[str, str] = {}
        unknown: list[str] = []
        for where, entry in _entries(self.results.glob("*.jsonl")):
            if not (identity := _id(entry)):
                unknown.append(where)
                continue
            if journal.reply(identity) is not None:
                continue
            try:
                response = entry.get("response")
                reply = reply_of(response.get("body") if isinstance(response, dict) else None)
            except ValueError as error:
                failed[identity] = f"{where}: {error}"
                continue
            journal.write_reply(identity, reply)
        for what, lines in (("no result of a request", unknown), ("without a usable reply", list(failed.values()))):
            if lines:
                logger.warning("%d results are %s and passed over (%s).", len(lines), what, lines[0])
        return set(failed)

    def waits_for(self, identity: str) -> bool:
        """Whether a request was handed in and has no result yet."""
        return identity in self._waiting

    def add(self, identity: str, body: dict[str, Any]) -> None:
        """Take a request into the next file."""
        entry = {"custom_id": identity, "method": "POST", "url": "/v1/chat/completions", "body": body}
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        if self._fresh and (len(self._fresh) == MOST_REQUESTS or self._bytes + len(line) > MOST_BYTES):
            self.flush("part")
        self._fresh.append(line)
        self._bytes += len(line)
        self._waiting.add(identity)

    def flush(self, name: str) -> None:
        """Write the requests taken since the last time, if there are any."""
        if not self._fresh:
            return
        number = len(list(self.folder.glob("requests-*.jsonl"))) + 1
        path = self.folder / f"requests-{number:03d}-{file_name(mask(name)).replace(' ', '-')}.jsonl"
        write_atomic(path, b"".join(self._fresh))
        self.written.append(path)
        self._fresh, self._bytes = [], 0


def _entries(paths: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Where each line of the files is, and its JSON value; None where it has none."""
    for path in sorted(paths):
        with open_regular(path) as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if not line.strip():
                    continue
                whole = line.endswith(b"\n") or len(line) < LONGEST_LINE
                while not line.endswith(b"\n") and (line := file.readline(LONGEST_LINE)):
                    whole = False
                yield f"{path} line {number}", _value(line) if whole else None


def _value(line: bytes) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None


def _id(entry: Any) -> str:
    """The request that a line is about; empty where it names none."""
    identity = entry.get("custom_id") if isinstance(entry, dict) else None
    return identity if isinstance(identity, str) else ""
