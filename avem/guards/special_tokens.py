"""Special tokens inside text: a row that holds one trains on another sequence than its author wrote."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from avem.errors import PromptError
from avem.records import InstructionRow, PreferenceRow, Question

COMMON = re.compile(
    r"</?s>|<(?:image|video|audio|speech|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|image_soft_token)>"
    r"|<\|[^\s<>|]{1,64}\|>|<\uff5c[^\s<>\uff5c]{1,64}\uff5c>|\[/?INST\]|<</?SYS>>"
)
"""Special tokens of the usual language models, and the placeholders for media that prompts are built with."""

MARKS = ("\ue000", "\ue001", "\ue002")
"""Characters that stand for media and answers while a prompt is built."""


def special_tokens(tokenizer: Any) -> frozenset[str]:
    """The special tokens of a Hugging Face tokenizer as text; single characters are text, whatever else they mean.

    Args:
        tokenizer: Has `all_special_tokens` and, if it is a transformers tokenizer, `added_tokens_decoder`.
    """
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    names = {str(token) for token in added.values() if getattr(token, "special", False)}
    names |= {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    return frozenset(name for name in names if len(name.strip()) > 1)


def find_special(text: str, tokens: Collection[str] = ()) -> str | None:
    """The first special token that a text holds, or None.

    Args:
        text: A question or an answer.
        tokens: Those of the tokenizer at hand, from `special_tokens`; the common ones are found without them.

    Example:
        >>> find_special("She smiles.</s>")
        '</s>'
    """
    found = [(text.find(token), token) for token in (*MARKS, *tokens) if token in text]
    if common := COMMON.search(text):
        found.append((common.start(), common.group()))
    return min(found, key=lambda each: (each[0], -len(each[1])))[1] if found else None


def special_in_row(
    row: PreferenceRow | InstructionRow | Question, tokens: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Each text field of a row that holds a special token, with the first one that it holds."""
    for field, text in _texts(row):
        if token := find_special(text, tokens):
            yield field, token


def refuse_special(rows: Iterable[PreferenceRow | InstructionRow | Question], tokens: Collection[str] = ()) -> None:
    """Refuse rows whose text a tokenizer would turn into special tokens.

    Args:
        rows: Training rows, or a benchmark's questions.
        tokens: Those of the tokenizer at hand, from `special_tokens`.

    Raises:
        PromptError: A row holds one; the message names the row, the field and the token.
    """
    for row in rows:
        for field, token in special_in_row(row, tokens):
            name = f"Question {row.id}" if isinstance(row, Question) else f"Row {row.row_id}"
            raise PromptError(
                f"{name}: its {field} holds {token!r}, a special token or placeholder and no text to the model; "
                "take it out, since prompts are given theirs."
            )


def _texts(row: PreferenceRow | InstructionRow | Question) -> list[tuple[str, str]]:
    if isinstance(row, Question):
        return [("question", row.question), *(("choices", choice) for choice in row.choices)]
    if isinstance(row, InstructionRow):
        return [("question", row.question), ("answer", row.answer)]
    fields = ("question", "chosen", "rejected_video_relevant", "rejected_emotion_relevant", "rejected_irrelevant")
    return [(field, getattr(row, field)) for field in fields if getattr(row, field) is not None]
