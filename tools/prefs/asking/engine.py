"""Send many requests at a time: every reply is logged and checked, and a bad one may be corrected once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avem.endpoint.chat import ChatClient, ChatRequest
from avem.endpoint.chat_replies import ChatReply
from avem.errors import EndpointError, MediaError
from avem.files import json_sha256
from avem.progress import stage
from avem.tools.prefs.asking.batch import Batch
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.asking.prompts import REPAIR, PromptSet
from avem.tools.prefs.media import Attachment
from avem.tools.prefs.steps.replies import Context, Reading, read_reply
from avem.tools.prefs.steps.steps import Step

FAILURES_IN_A_ROW = 12
"""So many requests given up one after the other, without any success between, end the run: the endpoint is down."""
LONGER = 2
"""A reply that was cut off may be this many times longer when it is corrected."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to find out."""

    about: str
    """The clip or item, for the log and the ledger."""
    step: Step
    model: str
    """Name of one of the engine's clients."""
    values: Mapping[str, str]
    """What fills the prompt's placeholders."""
    context: Context = field(default_factory=Context)
    media: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    value: dict[str, Any] | None = None
    """The reply as its schema has it."""
    reason: str = ""
    """Why there is no value."""
    passing: bool = False
    """The endpoint failed, not the reply: a later run asks again."""
    pending: bool = False
    """The request waits in a batch file."""
    corrected: bool = False
    """The second reply was needed."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One request of a job: its messages as text, without media."""

    identity: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int


class Engine:
    """Runs jobs against models.

    Args:
        clients: Open clients by the names that jobs use.
        prompts: The prompt of every step.
        journal: Where requests and replies are kept.
        seed: Sent with every request; a part of its identity.
        options: Further fields of every request, such as `response_format`.
        temperature: Of every request.
        batch: Write requests for the provider's batch service here instead of sending them.
    """

    def __init__(
        self,
        clients: Mapping[str, ChatClient],
        prompts: PromptSet,
        journal: Journal,
        *,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        temperature: float = 0.0,
        batch: Batch | None = None,
    ) -> None:
        self.prompts, self.journal, self.batch = prompts, journal, batch
        self._clients, self._temperature = clients, temperature
        self._options = {"seed": seed, **(options or {})}
        self._stop: BaseException | None = None
        self._flying: dict[str, asyncio.Future[ChatReply | Outcome]] = {}
        self._failed_in_a_row = 0

    async def run(self, name: str, jobs: Sequence[Job]) -> list[Outcome]:
        """Find out everything; requests in flight are never given up, so that none is paid for in vain.

        Args:
            name: What progress is shown as.
            jobs: What to find out.

        Returns:
            One outcome a job, in their order.

        Raises:
            EndpointError: The key is wrong, the model unknown, or the endpoint down; said once, after the requests in
                flight were answered and logged.
            KeyboardInterrupt: The run was interrupted, after the requests in flight were answered and logged.
        """
        outcomes: list[Outcome | None] = [None] * len(jobs)
        waiting = iter(range(len(jobs)))
        with stage(name, len(jobs), "replies") as bar, _Interruption(self):

            async def work() -> None:
                for number in waiting:
                    if self._stop is not None:
                        return
                    outcomes[number] = outcome = await self._find_out(jobs[number])
                    bar.advance(failures=int(outcome.value is None and not outcome.pending))

            parallel = max((client.settings.parallel for client in self._clients.values()), default=1)
            await asyncio.gather(*(work() for _ in range(min(parallel, len(jobs)))))
        if self.batch is not None:
            self.batch.flush(name)
        if self._stop is not None:
            raise self._stop
        return [outcome for outcome in outcomes if outcome is not None]

    def stop(self, reason: BaseException) -> None:
        """Begin nothing new; `run` raises the reason once what is in flight has come back."""
        self._stop = self._stop or reason

    async def _find_out(self, job: Job) -> Outcome:
        turn = self._turn(job, ({"role": "user", "content": self.prompts.render(job.step.name, job.values)},))
        for corrected in (False, True):
            reply = await self._reply(turn, job)
            if isinstance(reply, Outcome):
                return reply
            paper = job.step.name in self.prompts.papers
            reading = read_reply(reply.text, reply.finish_reason, job.step, job.context, paper=paper)
            if reading.value is not None:
                return Outcome(reading.value, corrected=corrected)
            if reading.refusal is not None:
                return Outcome(reason=f"the model declined: {reading.refusal}", corrected=corrected)
            if not corrected:
                turn = self._mending(turn, job, reply, reading)
        return Outcome(reason=f"the reply can't be used: {'; '.join(reading.faults)}", corrected=True)

    def _turn(self, job: Job, messages: tuple[dict[str, str], ...], max_tokens: int = 0) -> _Turn:
        max_tokens = max_tokens or job.step.max_tokens
        identity = {
            "model": self._clients[job.model].settings.model,
            "messages": messages,
            "max_tokens": max_tokens,
            "media": job.media.identity if job.media else None,
            "temperature": self._temperature,
            **self._options,
        }
        return _Turn(json_sha256(identity), messages, max_tokens)

    def _mending(self, turn: _Turn, job: Job, reply: ChatReply, reading: Reading) -> _Turn:
        asked = self.prompts.render(REPAIR, {"faults": "; ".join(reading.faults)})
        further = ({"role": "assistant", "content": reply.text}, {"role": "user", "content": asked})
        longer = LONGER if reply.finish_reason == "length" else 1
        return self._turn(job, (*turn.messages, *further), turn.max_tokens * longer)

    async def _reply(self, turn: _Turn, job: Job) -> ChatReply | Outcome:
        """The logged reply, or a new one; an outcome where there is none. Equal requests are sent once."""
        if (known := self.journal.reply(turn.identity)) is not None:
            return known
        if self.batch is not None and self.batch.waits_for(turn.identity):
            return Outcome(pending=True)
        if (flying := self._flying.get(turn.identity)) is not None:
            return await flying
        # a future instead of a task: the caller continues at once, without waiting for the loop's next turn
        flying = self._flying[turn.identity] = asyncio.get_running_loop().create_future()
        try:
            found = await self._send(turn, job)
        except BaseException:
            flying.cancel()
            raise
        finally:
            del self._flying[turn.identity]
        if not flying.done():
            flying.set_result(found)
        return found

    async def _send(self, turn: _Turn, job: Job) -> ChatReply | Outcome:
        try:
            parts = await asyncio.to_thread(job.media.load) if job.media else []
        except MediaError as error:
            return Outcome(reason=str(error))
        first = {"role": "user", "content": [{"type": "text", "text": turn.messages[0]["content"]}, *parts]}
        client = self._clients[job.model]
        request = ChatRequest(
            (first if parts else turn.messages[0], *turn.messages[1:]),
            turn.max_tokens,
            self._temperature,
            self._options,
            headers={"Idempotency-Key": turn.identity},
        )
        logged = [{"attached": job.media.identity}] if job.media else []
        self.journal.write_request(
            turn.identity, job.step.name, client.settings.model, job.about, [*turn.messages, *logged]
        )
        if self.batch is not None:
            self.batch.add(turn.identity, request.body(client.settings.model))
            return Outcome(pending=True)
        return await self._ask(client, request, turn.identity)

    async def _ask(self, client: ChatClient, request: ChatRequest, identity: str) -> ChatReply | Outcome:
        try:
            reply = await client.ask(request)
        except EndpointError as error:
            self.journal.write_error(identity, str(error))
            self._failed_in_a_row += 1
            if error.stops_all or self._failed_in_a_row >= FAILURES_IN_A_ROW:
                self.stop(error)
            return Outcome(reason=str(error), passing=True)
        self._failed_in_a_row = 0
        self.journal.write_reply(identity, reply)
        return reply


class _Interruption:
    """While open, the first Ctrl-C or termination lets the engine come to rest; a second one works as ever."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._handles = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> None:
        if self._handles:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._rest)

    def __exit__(self, *_: object) -> None:
        if self._handles:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.remove_signal_handler(number)

    def _rest(self) -> None:
        self._engine.stop(KeyboardInterrupt())
        self.__exit__()
