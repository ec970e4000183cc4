"""A client for OpenAI-compatible chat endpoints: few requests at once, patient with bad moments, exact about errors."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import aiohttp

from avem.connections import open_session
from avem.errors import EndpointError, SettingError

logger = logging.getLogger(__name__)

Key = TypeVar("Key")

LONGEST_WAIT_S = 60.0
"""Longest pause before a retry, whatever the endpoint asks for."""

LARGE_BYTES = 2**20
"""Bodies beyond this, such as those with media, are sent piece by piece, so that other requests are not held up."""

SHOWN = 200
"""How much of an endpoint's own words an error repeats, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """Where a model answers, and how patiently it is asked."""

    endpoint: str
    """Base address, such as `http://localhost:8000/v1`; `/chat/completions` is added to it."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; local servers need none."""
    timeout_s: float = 120.0
    """For a whole request, from connecting to the reply's last byte."""
    retries: int = 5
    """Further tries after a timeout, a rate limit, a server's error or a reply that is no JSON."""
    pause_s: float = 1.0
    """Before the first retry; doubled each time, unless the endpoint says how long to wait."""
    parallel: int = 8
    """Requests in flight."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            SettingError: The address is none, or a number is out of range.
        """
        if not self.endpoint.startswith(("http://", "https://")):
            raise SettingError(f"{self.endpoint!r} is no address; give one such as http://localhost:8000/v1.")
        if not self.model:
            raise SettingError("An endpoint needs the name of a model; give it as the server lists it.")
        if self.parallel < 1 or self.retries < 0 or self.timeout_s <= 0 or self.pause_s < 0:
            raise SettingError("An endpoint needs parallel >= 1, retries >= 0, timeout_s > 0 and pause_s >= 0.")

    @property
    def url(self) -> str:
        """Where requests go."""
        base = self.endpoint.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One thing to ask."""

    messages: Sequence[Mapping[str, Any]]
    """In the form of the chat completions API: `role` and `content`, the latter text or a list of parts."""
    max_tokens: int = 512
    temperature: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request, such as `response_format` or `seed`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Such as `Idempotency-Key`, by which an endpoint that knows it counts a request sent twice once."""

    def body(self, model: str) -> dict[str, Any]:
        """The JSON object that is sent."""
        known = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        return {"model": model, "messages": list(self.messages), **known, **self.options}


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""


class _Passing(Exception):
    """A failure that another try may mend."""

    def __init__(self, said: str, wait_s: float | None = None) -> None:
        super().__init__(said)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class _Response:
    """What an endpoint sent."""

    status: int
    data: bytes
    retry_after: str = ""

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class ChatClient:
    """Asks one model behind one endpoint; use as an async context manager.

    Args:
        settings: Where and how.

    Raises:
        SettingError: The key holds characters that can't be sent.
    """

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        key = os.environ.get(settings.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise SettingError(f"{settings.key_variable} holds characters that no key has; set it to the key alone.")
        known = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers = known | ({"Authorization": f"Bearer {key}"} if key else {})

    async def __aenter__(self) -> ChatClient:
        """The client itself, with its connections."""
        self._session = open_session(self.settings.url, self.settings.parallel, self.settings.timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        await self._session.close()

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Ask once, trying again after failures that may pass.

        Raises:
            EndpointError: The key is wrong, the model unknown, the request refused, or every try failed; the message
                says which, and `stops_all` whether later requests would fail too.
        """
        tries = self.settings.retries + 1
        for number in range(tries):
            try:
                return await self._try(request)
            except _Passing as failure:
                said, wait_s = str(failure), failure.wait_s
            if number + 1 < tries:
                logger.debug("%s %s; trying again.", self.settings.url, said)
                await asyncio.sleep(self._pause(number, wait_s))
        raise EndpointError(f"{self.settings.url} {said}, {tries} times; ask again later, or raise the retries.")

    def _pause(self, number: int, asked_s: float | None) -> float:
        """Seconds before a retry: what the endpoint asks for, else doubling, blurred so that callers spread."""
        own = self.settings.pause_s * 2**number * random.uniform(0.75, 1.25)
        return min(LONGEST_WAIT_S, own if asked_s is None else asked_s)

    async def _try(self, request: ChatRequest) -> ChatReply:
        try:
            response = await self._send(request)
        except TimeoutError as error:
            raise _Passing(f"did not answer within {self.settings.timeout_s:g} s") from error
        except aiohttp.InvalidURL as error:
            raise EndpointError(f"{self.settings.url} is no address ({error}).", stops_all=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(f"can't be reached ({error or type(error).__name__})") from error
        self._check_status(response)
        return _read_reply(response)

    async def _send(self, request: ChatRequest) -> _Response:
        headers = {**self._headers, **request.headers}
        body = json.dumps(request.body(self.settings.model), ensure_ascii=False).encode()
        data = io.BytesIO(body) if len(body) > LARGE_BYTES else body
        async with self._session.post(self.settings.url, data=data, headers=headers, allow_redirects=False) as response:
            return _Response(response.status, await response.read(), response.headers.get("Retry-After", ""))

    def _check_status(self, response: _Response) -> None:
        """Sort refusals into those that may pass, those about this request, and those that end the run."""
        status = response.status
        if status == 200:
            return
        said = _own_words(response)
        if status in (401, 403):
            variable = self.settings.key_variable
            raise EndpointError(
                f"{self.settings.url} refuses the key (status {status}: {said}); set {variable} to a valid one.",
                stops_all=True,
            )
        if status == 404:
            raise EndpointError(
                f"{self.settings.url} knows no model {self.settings.model!r}, or is not the API's address "
                f"(status 404: {said}); the address usually ends in /v1.",
                stops_all=True,
            )
        if status == 429 and "insufficient_quota" in response.text:
            raise EndpointError(f"{self.settings.url} has no credit left for this key: {said}.", stops_all=True)
        if status == 429:
            raise _Passing("limits the rate of requests (status 429)", _retry_after(response))
        if status >= 500 or status in (408, 409):
            raise _Passing(f"failed (status {status}: {said})", _retry_after(response))
        raise EndpointError(f"{self.settings.url} refuses the request (status {status}: {said}).")


async def ask_each(
    client: ChatClient, requests: Iterable[tuple[Key, ChatRequest]]
) -> AsyncIterator[tuple[Key, ChatReply | EndpointError]]:
    """Ask many things, at most `parallel` at once, and give each reply as it comes.

    Args:
        client: Whom to ask.
        requests: Keys with requests; taken one by one as there is room, so that a generator holds few in memory.

    Yields:
        A key with its reply, or with the error that concerns this request alone.

    Raises:
        EndpointError: Every later request would fail too (`stops_all`); those in flight are given up.
    """
    waiting = iter(requests)
    running: dict[asyncio.Task[ChatReply], Key] = {}
    try:
        while True:
            while len(running) < client.settings.parallel and (following := next(waiting, None)) is not None:
                running[asyncio.create_task(client.ask(following[1]))] = following[0]
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            stop: EndpointError | None = None
            for task in done:
                key, error = running.pop(task), task.exception()
                if isinstance(error, EndpointError):
                    stop = error if error.stops_all else stop
                    if not error.stops_all:
                        yield key, error
                else:
                    yield key, task.result()
            if stop is not None:
                raise stop
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _read_reply(response: _Response) -> ChatReply:
    if response.text.lstrip()[:1] == "<":
        raise _Passing("answered with a web page instead of JSON; is it the API's address, which usually ends in /v1?")
    try:
        content = json.loads(response.data)
        choice = content["choices"][0]
        text = choice["message"]["content"]
        usage = content.get("usage") or {}
        read, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Passing(f"answered with broken or unexpected JSON ({_own_words(response)!r})") from error
    if not isinstance(text, str):
        raise _Passing("answered without text")
    return ChatReply(text, read, written, str(choice.get("finish_reason") or ""))


def _own_words(response: _Response) -> str:
    """The endpoint's message, or the beginning of whatever it sent, on one line."""
    said = response.text
    try:
        error = json.loads(response.data)["error"]
        said = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        pass
    line = " ".join(str(said).split()).rstrip(".")
    return line[:SHOWN] + ("..." if len(line) > SHOWN else "")


def _retry_after(response: _Response) -> float | None:
    try:
        return max(0.0, float(response.retry_after))
    except ValueError:
        return None
