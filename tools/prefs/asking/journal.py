"""The log of requests and replies: append-only, so that what was answered once is never asked again."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from avem.endpoint.chat_replies import ChatReply
from avem.errors import DataError
from avem.guards.disk import writing
from avem.guards.outputs import make_folders
from avem.guards.ownership import Owner
from avem.sealed.log import intact_records, is_torn, sealed_line, warn_of_lines

SYNC_EVERY_S = 1.0
"""A power cut loses at most the replies of this time; a killed process loses none."""


class Journal:
    """One JSON object a line: `request` as it is sent, `reply` as it came, `error` where none came.

    A request is known by its digest, so that an equal one of a later run finds its reply. Media stand in the log by
    name, not by their bytes. Every line carries its checksum: a damaged one is named, and its request sent again. A
    line that a crash cut short is cut off.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        DataError: The file is something else.
        SettingError: Another run holds the file.
        WriteError: It can't be written.
    """

    def __init__(self, path: Path) -> None:
        make_folders(path.parent)
        self._owner = Owner(path.with_name(f".{path.name}.lock"), path)
        self.path = path
        self._replies: dict[str, ChatReply] = {}
        self.requests: Counter[str] = Counter()
        """Requests sent, by step, in this and earlier runs."""
        try:
            with writing(path):
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                self._load()
            except BaseException:
                os.close(self._file)
                raise
        except BaseException:
            self._owner.close()
            raise
        self._synced = time.monotonic()
        self._syncing = ThreadPoolExecutor(1)  # a slow disk must not hold up the requests in flight
        self._sync: Future[None] | None = None

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
        self._owner.close()

    def _load(self) -> None:
        strange: list[int] = []
        with self.path.open("rb") as file:
            for number, entry in intact_records(self._whole_lines(file), self.path):
                try:
                    self._take(entry)
                except (KeyError, TypeError, ValueError):
                    strange.append(number)
        if strange:
            warn_of_lines(self.path, strange)
        if self._torn_at is not None:
            os.ftruncate(self._file, self._torn_at)

    def _whole_lines(self, file: IO[bytes]) -> Iterator[bytes]:
        """The file's lines; one at the end that a crash cut short is left out, and cut off once the others are read."""
        self._torn_at: int | None = None
        whole = 0
        for line in file:
            if not line.endswith(b"\n"):
                if not (whole or is_torn(line, "type")):
                    raise DataError(f"{self.path} is not a log of requests; remove it, or give another --out.")
                self._torn_at = whole
                return
            whole += len(line)
            yield line

    def _take(self, entry: Mapping[str, Any]) -> None:
        if entry["type"] == "request":
            self.requests[str(entry["step"])] += 1
        elif entry["type"] == "reply":
            text, reason = entry["text"], entry["finish_reason"]
            if not (isinstance(text, str) and isinstance(reason, str)):
                raise TypeError("its text or finish_reason is not a string")
            read, written = (int(entry[name]) for name in ("prompt_tokens", "completion_tokens"))
            self._replies[str(entry["id"])] = ChatReply(text, read, written, reason)

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
        data = sealed_line({**entry, "at": round(time.time(), 3)})
        end = os.fstat(self._file).st_size
        with writing(self.path):
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError:
                os.ftruncate(self._file, end)  # no half line is left
                raise
        due = time.monotonic() - self._synced > SYNC_EVERY_S
        if due and (self._sync is None or self._sync.done()):
            self._sync = self._syncing.submit(os.fsync, self._file)
            self._synced = time.monotonic()

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of every reply, as the endpoints counted them."""
        replies = self._replies.values()
        return sum(reply.prompt_tokens for reply in replies), sum(reply.completion_tokens for reply in replies)
