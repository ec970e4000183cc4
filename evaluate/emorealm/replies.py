"""Replies made plain before they are parsed: thoughts removed, one spelling of letters and marks, JSON unpacked."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
TAG = re.compile(
    rf"<(/?){_NAMES}>|\u25c1(/?){_NAMES}\u25b7|\[(/?)think(?:ing)?\]|<\|(begin|end)_of_thought\|>", re.IGNORECASE
)
"""Tags that reasoning models put around their thoughts; a slash, or `end`, closes one."""
FINAL_CHANNEL, OTHER_CHANNEL = "<|channel|>final<|message|>", re.compile(r"<\|channel\|>(?:analysis|commentary)")
"""Where gpt-oss writes its answer, and where its thoughts begin."""
LONGEST = 1 << 16
"""Characters of a reply that are parsed, the last ones; answers stand at the end."""

TAGGED = re.compile(r"<(answer|final_answer|final|output|response)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
"""An answer between tags."""
FENCE = re.compile(r"^\s*```\w*\s*|\s*```\s*$")
OBJECT = re.compile(r"\{[^{}]*\}")

MARKS = str.maketrans(
    {
        "\u3002": ". ",
        "\u3001": ", ",
        "\u2018": "'",
        "\u2019": "'",
        "\u300c": '"',
        "\u300d": '"',
        "\u300e": '"',
        "\u300f": '"',
        "\u3010": "[",
        "\u3011": "]",
        "\u3014": "(",
        "\u3015": ")",
        "\u300a": '"',
        "\u300b": '"',
        "\u3008": '"',
        "\u3009": '"',
        "\u00ab": '"',
        "\u00bb": '"',
        "\u201c": '"',
        "\u201d": '"',
    }
)
"""Punctuation of other scripts and what it does; full-width letters and marks fold by themselves."""


def without_thoughts(reply: str) -> str:
    """A reply without the thoughts of a reasoning model.

    A closing tag without its opening one, which some prompts hold, ends a thought; one that is never closed was cut
    short and holds no answer.

    Example:
        >>> without_thoughts("<think>(A) or (C)?</think> B")
        '  B'
    """
    _, channel, final = reply.rpartition(FINAL_CHANNEL)
    text = final if channel else OTHER_CHANNEL.split(reply, maxsplit=1)[0]
    kept: list[str] = []
    position, thinking = 0, False
    for tag in TAG.finditer(text):
        closes = any(part in ("/", "end") for part in map(str.lower, filter(None, tag.groups())))
        if closes and not thinking:
            kept.clear()
        elif not closes and not thinking:
            kept.append(text[position : tag.start()])
        position, thinking = tag.end(), not closes
    return " ".join([*kept, "" if thinking else text[position:]]) if position else text


def plain(reply: str) -> str:
    """A reply in one spelling: full-width and styled letters as plain ones, marks of other scripts as Latin ones."""
    folded = unicodedata.normalize("NFKC", reply.translate(MARKS))
    return "".join(character for character in folded if unicodedata.category(character) != "Cf")


def answer_of(reply: str, fields: Sequence[str]) -> str:
    """The answer within a reply: without thoughts, in one spelling, out of tags and JSON.

    Args:
        reply: Raw text of the model.
        fields: Where a JSON object may keep the answer.

    Returns:
        Text to parse. An object whose fields disagree, or that has none of them, stays as it is.
    """
    text = plain(without_thoughts(reply)[-LONGEST:])
    if tagged := [match.group(2) for match in TAGGED.finditer(text)]:
        text = " \n ".join(dict.fromkeys(part.strip() for part in tagged))
    said = set(_json_answers(text, fields))
    return said.pop() if len(said) == 1 else text


def _json_answers(text: str, fields: Sequence[str]) -> Iterator[str]:
    body = FENCE.sub("", text).strip()
    for part in (body, *OBJECT.findall(text)) if body[:1] in ("{", "[") or "{" in text else ():
        try:
            content = json.loads(part, object_pairs_hook=list)
        except (ValueError, RecursionError):
            continue
        pairs = content if isinstance(content, list) else []
        if len(pairs) == 1 and isinstance(pairs[0], str):
            yield pairs[0]
        for pair in pairs:
            if isinstance(pair, tuple) and pair[0].lower() in fields and (said := _text(pair[1])):
                yield said


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.strip() if isinstance(value, str) else ""
