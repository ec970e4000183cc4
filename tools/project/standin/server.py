"""An OpenAI-compatible server that answers from the controlled corpus's ground truth, with faults on demand.

With it the whole pipeline runs offline, and what it makes is right by construction.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Any

from avem.tools.corpus.scene import Scene
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.steps.pipeline import code_of
from avem.tools.prefs.steps.steps import STEPS
from avem.tools.project.standin.answers import Witness, spoil

REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
TRANSPORT_FAULTS = {
    "rate_limit": (429, "too many requests"),
    "server_error": (500, "out of order"),
    "wrong_key": (401, "invalid key"),
}
"""Faults that are a status; `timeout` is a reply that comes too late."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong."""

    kind: str
    """`rate_limit`, `server_error`, `wrong_key`, `timeout`, or how to spoil a reply (`answers.spoil`)."""
    step: str = ""
    """Only in this step; everywhere if empty."""
    share: float = 1.0
    """Of the requests that are hit; the same ones every time."""
    once: bool = True
    """Only the first time: a retry, or the attempt to correct a reply, succeeds."""


class StandIn:
    """Runs in a thread of its own while open as a context manager; `endpoint` is its address.

    A request that comes with the `Idempotency-Key` of an earlier one gets the same reply and is not billed again.

    Args:
        scenes: The corpus's ground truth.
        latency_s: Time that every reply takes.
        faults: What goes wrong.
        awkward: Captions contain quotation marks, braces, dollar signs and backslashes.
    """

    def __init__(
        self, scenes: Sequence[Scene], *, latency_s: float = 0.0, faults: Sequence[Fault] = (), awkward: bool = False
    ) -> None:
        self.billed: Counter[str] = Counter()
        """How often the model worked, by idempotency key (or by body where there is none)."""
        self.arrived: Counter[str] = Counter()
        """How often requests came, by the same keys."""
        self.steps: Counter[str] = Counter()
        """Replies worked out, by step."""
        self.bodies: list[dict[str, Any]] = []
        """Every request's body, in the order of arrival."""
        self.in_hand_s = 0.0
        """Time from each request's arrival to its reply, summed."""
        self._witness = Witness({code_of(scene.clip_id): scene for scene in scenes}, awkward)
        prompts = load_prompts()
        self._steps = {prompts.title(name): name for name in STEPS}
        self._latency_s, self._faults = latency_s, faults
        self._replies: dict[str, bytes] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.endpoint = ""

    def __enter__(self) -> StandIn:
        """Begin to listen on a free port of this machine."""
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result()
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                arrived = time.perf_counter()
                status, reply = await self._answer(body, headers.get("idempotency-key", ""))
                self.in_hand_s += time.perf_counter() - arrived
                extra = "retry-after: 0\r\n" if status == 429 else ""
                line = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\n{extra}"
                writer.write(f"{line}content-length: {len(reply)}\r\n\r\n".encode() + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, data: bytes, key: str) -> tuple[int, bytes]:
        body = json.loads(data)
        key = key or sha256(data).hexdigest()
        self.bodies.append(body)
        self.arrived[key] += 1
        step = self._steps.get(text_of(body).partition("\n")[0], "")
        if not step:
            return 404, b'{"error": {"message": "this stand-in knows the pipeline\'s own prompts alone"}}'
        for fault in self._faults:
            if fault.kind in TRANSPORT_FAULTS and self._hits(fault, step, key, self.arrived[key] == 1):
                status, said = TRANSPORT_FAULTS[fault.kind]
                return status, json.dumps({"error": {"message": said}}).encode()
            if fault.kind == "timeout" and self._hits(fault, step, key, self.arrived[key] == 1):
                await asyncio.sleep(3600)
        if key not in self._replies:
            self.billed[key] += 1
            self.steps[step] += 1
            self._replies[key] = self._work_out(body, step, key)
        await asyncio.sleep(self._latency_s)
        return 200, self._replies[key]

    def _hits(self, fault: Fault, step: str, key: str, first: bool) -> bool:
        drawn = int(sha256(f"{key} {fault.kind}".encode()).hexdigest()[:8], 16) / 2**32
        return fault.step in ("", step) and drawn < fault.share and (first or not fault.once)

    def _work_out(self, body: dict[str, Any], step: str, key: str) -> bytes:
        first = len(body["messages"]) == 1
        value = self._witness.answer(step, text_of(body), str(body["model"]))
        text, finish_reason = (value, "stop") if isinstance(value, str) else (json.dumps(value), "stop")
        for fault in self._faults:
            if fault.kind not in TRANSPORT_FAULTS and fault.kind != "timeout" and self._hits(fault, step, key, first):
                text, finish_reason = spoil(fault.kind, value, step, self._witness.emotion(text_of(body)))
                break
        words = sum(len(str(message["content"])) // 4 for message in body["messages"])
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        usage = {"prompt_tokens": min(words, 4000), "completion_tokens": len(text) // 4}
        return json.dumps({"choices": [choice], "usage": usage}).encode()


def text_of(body: dict[str, Any]) -> str:
    """The prompt of a request, without media."""
    content = body["messages"][0]["content"]
    return str(content if isinstance(content, str) else content[0]["text"])
