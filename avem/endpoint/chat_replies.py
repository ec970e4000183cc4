"""What an endpoint sends, read with limits and believed in nothing: size, compression, nesting, types, encoding."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from avem.guards.secrets import mask_known
from avem.text.escaping import one_line

LARGEST_REPLY = 8 * 2**20
"""Most bytes of a reply that are read, before and after they are decompressed."""
LONGEST_TEXT = 2**20
"""Most characters of a reply's text."""
DEEPEST_JSON = 64
"""Most objects and lists that lie within each other."""
MOST_TOKENS = 10**12
"""More than any count of tokens can be."""
SHOWN = 200
"""How much of an endpoint's own words an error repeats, in characters."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What an endpoint sent, at most `LARGEST_REPLY` bytes of it."""

    status: int
    data: bytes
    retry_after: str = ""
    whole: bool = True
    """Whether that was all."""

    @property
    def text(self) -> str:
        """The bytes as text, whatever they are."""
        return self.data.decode("utf-8", "replace")


async def read_response(response: aiohttp.ClientResponse) -> Response:
    """Read a response up to the limit; what is beyond it is never received.

    Args:
        response: Of a session that does not decompress by itself.

    Raises:
        ValueError: It is compressed in an unknown way, or not as it says.
        aiohttp.ClientError: The connection broke.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ValueError(f"is compressed as {one_line(coding)[:SHOWN]!r}, which was not asked for")
    opener = zlib.decompressobj(wbits=47) if coding not in ("", "identity") else None
    data, received, whole = bytearray(), 0, True
    async for chunk in response.content.iter_any():
        received += len(chunk)
        try:
            data += opener.decompress(chunk, LARGEST_REPLY + 1 - len(data)) if opener else chunk
        except zlib.error as error:
            raise ValueError(f"is not compressed as it says ({error})") from error
        if max(len(data), received) > LARGEST_REPLY:
            whole = False
            response.close()  # or the rest would be received to keep the connection
            break
    after = response.headers.get("Retry-After", "")
    return Response(response.status, bytes(data[:LARGEST_REPLY]), after, whole)


def parse_json(data: bytes | str) -> Any:
    """A JSON value that somebody else wrote.

    Raises:
        ValueError: It is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST_JSON):
        level = [item for each in level for item in _inside(each)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")


def reply_of(body: Any) -> ChatReply:
    """The reply in a response's JSON body, without the secrets of this run.

    Raises:
        ValueError: It is not a chat completion; the message says what is wrong.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ValueError("it holds no choice with a message")
    text, usage, reason = message.get("content"), body.get("usage"), choice.get("finish_reason")
    if not isinstance(text, str):
        raise ValueError("it holds no text")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"its text has {len(text):,} characters, more than {LONGEST_TEXT:,}")
    if usage is not None and not isinstance(usage, dict):
        raise ValueError("its usage is not an object")
    if reason is not None and not (isinstance(reason, str) and len(reason) <= SHOWN):
        raise ValueError("its finish_reason is not a word")
    read, written = (_count(name, (usage or {}).get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return ChatReply(mask_known(_unicode(text)), read, written, _unicode(reason or ""))


def parse_plain_json(data: str) -> Any:
    """A JSON value in what a model wrote, such as can be written again: without Infinity and halves of characters.

    Raises:
        ValueError: See `parse_json`, or it can't be written.
    """
    value = parse_json(data)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def own_words(response: Response) -> str:
    """The endpoint's message, or the beginning of whatever it sent, on one line and without secrets."""
    said: Any = response.text
    try:
        error = parse_json(response.data)["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        pass  # it is not in the usual form, and shown as it is
    line = one_line(" ".join(str(said).split())).rstrip(".")
    return line[:SHOWN] + ("..." if len(line) > SHOWN else "")


def retry_after(response: Response) -> float | None:
    """Seconds that the endpoint asks to wait; None where it does not say so in seconds."""
    try:
        return max(0.0, float(response.retry_after))
    except ValueError:
        return None


def _inside(value: Any) -> Iterator[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (item for item in items if isinstance(item, dict | list))


def _count(name: str, value: Any) -> int:
    if value is None:
        return 0
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"its {name} is not a count")
    return int(value)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("its text holds half a character (a lone surrogate)") from None
    return text
