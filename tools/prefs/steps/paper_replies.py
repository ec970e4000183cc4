"""Replies in the forms that the paper's own prompts ask for, as the objects that avem's schemas describe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REJECTED_KEYS = {
    "correct": "correct",
    "audio_relevant_emotion_irrelevant": "video_relevant",
    "video_relevant_emotion_irrelevant": "video_relevant",
    "emotion_relevant_audio_irrelevant": "emotion_relevant",
    "emotion_relevant_video_irrelevant": "emotion_relevant",
    "all_irrelevant": "irrelevant",
}
"""Keys of `choices` in Figs. 33 to 35, and ours."""

_GUESS = re.compile(r"(?:guess(?:ed)?\s+)?answer\s*\d*\s*:\s*(?:\(?([A-D])\)?(?![a-z])|none)", re.IGNORECASE)


def in_our_form(value: Any, text: str, step: str) -> Any:
    """A reply to one of the paper's prompts in avem's form; what is in avem's form already stays as it is.

    * Figs. 23 to 31: `answer` is an object of `choice` and `text`, or the text is beside it; the text is our
      `explanation`. Where the object stands beside `questions`, it belongs to the last one.
    * Figs. 33 to 35: the answers are in `choices`, under other names; Fig. 35 has no irrelevant answer.
    * Fig. 32: `Guess Answer: (A)` and the reason, in words.
    * Fig. 36: a paragraph.

    Args:
        value: The JSON value of the reply, None where it holds none.
        text: The whole reply.
        step: Name of the step.
    """
    if value is None and step == "description" and text.strip():
        return {"description": text.strip()}
    if value is None and step == "text_guess" and (found := _GUESS.search(text)):
        return {"answer": found.group(1), "reason": text.strip()}
    if not isinstance(value, Mapping):
        return value
    choices = value.get("choices")
    if isinstance(choices, Mapping):
        named = {REJECTED_KEYS.get(key, key): answer for key, answer in choices.items()}
        return {"question": value.get("question"), "irrelevant": None, **named}
    questions = value.get("questions")
    if isinstance(questions, list) and questions and all(isinstance(item, Mapping) for item in questions):
        last = {key: value[key] for key in ("answer", "category") if key in value and key not in questions[-1]}
        return {**value, "questions": [*map(_question, questions[:-1]), _question({**questions[-1], **last})]}
    return value


def _question(item: Mapping[str, Any]) -> dict[str, Any]:
    answer = item.get("answer")
    if isinstance(answer, Mapping):
        return {**item, "answer": answer.get("choice"), "explanation": answer.get("text")}
    if "explanation" not in item and "text" in item:
        return {**item, "explanation": item["text"]}
    return dict(item)
