"""Files for a provider's batch service: requests to hand in, and results to take back into the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avem.chat import ChatReply
from avem.escaping import file_name
from avem.files import write_atomic
from avem.secrets import mask
from avem.tools.prefs.journal import Journal

MOST_REQUESTS = 50_000
MOST_BYTES = 100_000_000
"""Limits of one file, which the common batch services share."""


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
        handed_in = {json.loads(line)["custom_id"] for line in self._lines(folder.glob("requests-*.jsonl"))}
        self._waiting = {name for name in handed_in if journal.reply(name) is None} - failed

    @staticmethod
    def _lines(paths: Any) -> list[str]:
        lines = [line for path in sorted(paths) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line.strip()]

    def _take_results(self, journal: Journal) -> set[str]:
        """Log every reply that is new; returns the requests that the service failed, which may be handed in again."""
        failed: set[str] = set()
        for line in self._lines(self.results.glob("*.jsonl")):
            entry = json.loads(line)
            identity = entry["custom_id"]
            if journal.reply(identity) is not None:
                continue
            body = (entry.get("response") or {}).get("body") or {}
            try:
                choice, usage = body["choices"][0], body.get("usage") or {}
                read, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
                reply = ChatReply(choice["message"]["content"], read, written, str(choice.get("finish_reason") or ""))
            except (KeyError, IndexError, TypeError):
                failed.add(identity)
                continue
            journal.write_reply(identity, reply)
        return failed

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
