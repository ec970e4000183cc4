"""A client for OpenAI-compatible chat endpoints: few requests at once, patient with bad moments, exact about errors."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
import random
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import aiohttp

from avem.endpoint.chat_replies import (
    LARGEST_REPLY,
    ChatReply,
    Response,
    own_words,
    parse_json,
    read_response,
    reply_of,
    retry_after,
)
from avem.endpoint.connections import CONNECT_S, open_session
from avem.errors import EndpointError, SettingError
from avem.guards.secrets import mask, remember, remember_url, without_secrets

logger = logging.getLogger(__name__)

Key = TypeVar("Key")

LONGEST_WAIT_S = 60.0
"""Longest pause before a retry, whatever the endpoint asks for."""

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

LARGE_BYTES = 2**20
"""Bodies beyond this, such as those with media, are sent piece by piece, so that other requests are not held up."""

FIRST_TRIES = 3
"""Tries of an address that never answered yet: a server that is not there is said in seconds, not in minutes."""
FIRST_PAUSE_S = 0.5
"""Longest pause between these."""


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
        remember_url(self.endpoint)
        remember(os.environ.get(self.key_variable, "").strip())
        if not self.endpoint.startswith(("http://", "https://")):
            raise SettingError(f"{self.endpoint!r} is not a valid address; give one such as http://localhost:8000/v1.")
        if not VARIABLE_NAME.fullmatch(self.key_variable):
            remember(self.key_variable)  # which may be the key itself
            raise SettingError(
                "The name of the key's environment variable is no name; give --key-variable the variable, not the key."
            )
        if not self.model:
            raise SettingError("An endpoint needs the name of a model; give it as the server lists it.")
        if self.parallel < 1 or self.retries < 0 or self.timeout_s <= 0 or self.pause_s < 0:
            raise SettingError("An endpoint needs parallel >= 1, retries >= 0, timeout_s > 0 and pause_s >= 0.")

    @property
    def url(self) -> str:
        """Where requests go, parameters such as `api-version` included; user and password go in a header."""
        parts = self._parts
        path = parts.path.rstrip("/")
        path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, parts.query, ""))

    @property
    def _parts(self) -> SplitResult:
        """The address taken apart."""
        try:
            return urlsplit(self.endpoint)
        except ValueError as error:
            raise EndpointError(f"{self.endpoint} is not a valid address ({error}).", stops_all=True) from error

    @property
    def identity(self) -> str:
        """The address by which answers are kept: without keys and passwords, so that a new key finds the old ones."""
        return without_secrets(self.url)

    @property
    def shown(self) -> str:
        """The address as errors and results name it."""
        return mask(self.url)

    def authorization(self) -> str:
        """The header that proves who asks: the address's user and password, else the key; empty without either.

        Raises:
            SettingError: The key holds characters that can't be sent.
        """
        user_info, _, _ = self._parts.netloc.rpartition("@")
        if user_info:
            return f"Basic {base64.b64encode(unquote(user_info).encode()).decode()}"
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise SettingError(f"{self.key_variable} holds characters that no key has; set it to the key alone.")
        return f"Bearer {key}" if key else ""


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


class _Passing(Exception):
    """A failure that another try may fix."""

    def __init__(self, said: str, wait_s: float | None = None) -> None:
        super().__init__(said)
        self.wait_s = wait_s


class _Unreached(_Passing):
    """No connection came about."""


class ChatClient:
    """Asks one model behind one endpoint; use as an async context manager.

    Args:
        settings: Where and how.

    Raises:
        SettingError: The key holds characters that can't be sent.
    """

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        self._reached = False
        known = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        proof = settings.authorization()
        self._headers = known | ({"Authorization": proof} if proof else {})

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
                new = isinstance(failure, _Unreached) and not self._reached
            if new and number + 1 >= min(tries, FIRST_TRIES):
                raise EndpointError(
                    f"{self.settings.shown} {said}; start the server, or give the right address.", stops_all=True
                )
            if number + 1 < tries:
                logger.debug("%s %s; trying again.", self.settings.shown, said)
                pause = self._pause(number, wait_s)
                await asyncio.sleep(min(pause, FIRST_PAUSE_S) if new else pause)
        raise EndpointError(f"{self.settings.shown} {said}, {tries} times; ask again later, or raise the retries.")

    def _pause(self, number: int, asked_s: float | None) -> float:
        """Seconds before a retry: what the endpoint asks for, else doubling, blurred so that callers spread."""
        own = self.settings.pause_s * 2**number * random.uniform(0.75, 1.25)
        return min(LONGEST_WAIT_S, own if asked_s is None else asked_s)

    async def _try(self, request: ChatRequest) -> ChatReply:
        try:
            response = await self._send(request)
        except aiohttp.ConnectionTimeoutError as error:
            raise _Unreached(f"can't be reached (no connection within {CONNECT_S:g} s)") from error
        except TimeoutError as error:
            raise _Passing(f"did not answer within {self.settings.timeout_s:g} s") from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise EndpointError(f"{self.settings.shown} is not a valid address ({error}).", stops_all=True) from error
        except aiohttp.ClientConnectorError as error:
            raise _Unreached(f"can't be reached ({error})") from error
        except aiohttp.ClientResponseError as error:
            raise _Passing(f"answered with broken HTTP ({error.message})") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(f"can't be reached ({error or type(error).__name__})") from error
        except ValueError as error:
            raise _Passing(f"answered with what {error}") from error
        self._reached = True
        self._check_status(response)
        return self._read(response)

    async def _send(self, request: ChatRequest) -> Response:
        headers = {**self._headers, **request.headers}
        body = json.dumps(request.body(self.settings.model)).encode()
        data = io.BytesIO(body) if len(body) > LARGE_BYTES else body
        async with self._session.post(self.settings.url, data=data, headers=headers, allow_redirects=False) as response:
            return await read_response(response)

    def _read(self, response: Response) -> ChatReply:
        """The reply in a response; one that is no reply may be better the next time, one without end not."""
        if not response.whole:
            raise EndpointError(
                f"{self.settings.shown} sends more than {LARGEST_REPLY >> 20} MiB for one reply; it was cut off there."
            )
        if response.text.lstrip()[:1] == "<":
            raise _Passing(
                "answered with a web page instead of JSON; is it the API's address, which usually ends in /v1?"
            )
        try:
            return reply_of(parse_json(response.data))
        except ValueError as error:
            raise _Passing(f"answered with broken or unexpected JSON ({error}: {own_words(response)!r})") from error

    def _check_status(self, response: Response) -> None:
        """Sort refusals into those that may pass, those about this request, and those that end the run."""
        status = response.status
        if status == 200:
            return
        said = own_words(response)
        if status in (401, 403):
            variable = self.settings.key_variable
            raise EndpointError(
                f"{self.settings.shown} refuses the key (status {status}: {said}); set {variable} to a valid one.",
                stops_all=True,
            )
        if status == 404:
            raise EndpointError(
                f"{self.settings.shown} knows no model {self.settings.model!r}, or is not the API's address "
                f"(status 404: {said}); the address usually ends in /v1.",
                stops_all=True,
            )
        if 300 <= status < 400:
            raise EndpointError(
                f"{self.settings.shown} sends the request elsewhere (status {status}), and the key goes nowhere else; "
                "give the final address."
            )
        if status == 429 and "insufficient_quota" in response.text:
            raise EndpointError(f"{self.settings.shown} has no credit left for this key: {said}.", stops_all=True)
        if status == 429:
            raise _Passing("limits the rate of requests (status 429)", retry_after(response))
        if status >= 500 or status in (408, 409):
            raise _Passing(f"failed (status {status}: {said})", retry_after(response))
        raise EndpointError(f"{self.settings.shown} refuses the request (status {status}: {said}).")


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
