"""The log of requests and replies: append-only, so that what was answered once is never asked again."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from avem.chat import ChatReply
from avem.errors import SettingError, StoreError
from avem.systems import lock_file

SYNC_EVERY_S = 1.0
"""A power cut loses at most the replies of this time; a killed process loses none."""


class Journal:
    """One JSON object a line: `request` as it is sent, `reply` as it came, `error` where none came.

    A request is known by its digest, so that an equal one of a later run finds its reply. Media stand in the log by
    name, not by their bytes. A line that a crash cut short is passed over.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        SettingError: Another run holds the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._replies: dict[str, ChatReply] = {}
        self.requests: Counter[str] = Counter()
        """Requests sent, by step, in this and earlier runs."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock_file(self._file, exclusive=True, wait=False)
        except StoreError:
            os.close(self._file)
            raise
        except OSError as error:
            os.close(self._file)
            raise SettingError(f"Another run writes {path}; wait for it, or give another folder.") from error
        self._synced = time.monotonic()
        self._syncing = ThreadPoolExecutor(1)  # a slow disk must not hold up the requests in flight
        self._sync: Future[None] | None = None
        self._load()

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make everything durable and let go of the file."""
        self._syncing.shutdown()
        os.fsync(self._file)
        os.close(self._file)

    def _load(self) -> None:
        whole = True
        with self.path.open("rb") as file:
            for line in file:
                whole = line.endswith(b"\n")
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue
        if not whole:
            os.write(self._file, b"\n")

    def _take(self, entry: Mapping[str, Any]) -> None:
        if entry["type"] == "request":
            self.requests[entry["step"]] += 1
        elif entry["type"] == "reply":
            self._replies[entry["id"]] = ChatReply(
                entry["text"], entry["prompt_tokens"], entry["completion_tokens"], entry["finish_reason"]
            )

    def reply(self, identity: str) -> ChatReply | None:
        """The reply to a request of this digest, if one ever came."""
        return self._replies.get(identity)

    def write_request(self, identity: str, step: str, model: str, about: str, messages: Sequence[Any]) -> None:
        """Note that a request is about to be sent.

        Args:
            identity: Its digest.
            step: The step it belongs to.
            model: Who is asked.
            about: The clip or item that it is about.
            messages: Its messages without the bytes of media.
        """
        entry = {"type": "request", "id": identity, "step": step, "model": model, "about": about, "messages": messages}
        self._write(entry)
        self.requests[step] += 1

    def write_reply(self, identity: str, reply: ChatReply) -> None:
        """Keep a reply."""
        fields = {
            name: getattr(reply, name) for name in ("text", "prompt_tokens", "completion_tokens", "finish_reason")
        }
        self._write({"type": "reply", "id": identity, **fields})
        self._replies[identity] = reply

    def write_error(self, identity: str, message: str) -> None:
        """Note that a request was given up; a later run sends it again."""
        self._write({"type": "error", "id": identity, "message": message})

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Append a line in one write, which a kill can not split from the line before it."""
        data = (json.dumps({**entry, "at": round(time.time(), 3)}, ensure_ascii=False) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]
        due = time.monotonic() - self._synced > SYNC_EVERY_S
        if due and (self._sync is None or self._sync.done()):
            self._sync = self._syncing.submit(os.fsync, self._file)
            self._synced = time.monotonic()

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of every reply, as the endpoints counted them."""
        replies = self._replies.values()
        return sum(reply.prompt_tokens for reply in replies), sum(reply.completion_tokens for reply in replies)
