"""Reading a model's reply: JSON found in it, held against the step's schema and the prompt's demands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avem.endpoint.chat_replies import parse_plain_json
from avem.evaluate.emorealm.replies import without_thoughts
from avem.records import Emotion
from avem.tools.prefs.asking.schema import faults_of
from avem.tools.prefs.checks.lexicon import emotions_named, words_of
from avem.tools.prefs.steps.paper_replies import in_our_form
from avem.tools.prefs.steps.steps import CHOICES, REJECTED, STEPS, YES_NO, Step

FENCE = re.compile(r"^```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
REFUSED = re.compile(r"^[\"'`]*ERROR\b[\s:.\-\"'`]*(.*)$", re.DOTALL)
ABOUT_INPUT = re.compile(
    r"\b(captions?|transcripts?|which of the following|what best (?:fits|suits)|emotion label)\b", re.IGNORECASE
)
LONGEST_RATIO = 2.5
"""Options, and answers, may differ in length by this factor; the prompts ask for nearly the same length."""
ENGLISH_WORDS = """
a an and are as at be but by do does for from has he her his how i in is it its no not of on or she that the their
there they this to was what when which who why with yes you
"""
ENGLISH = frozenset(ENGLISH_WORDS.split())
"""Words without which hardly any English sentence of some length can do."""
ENOUGH_WORDS = 6
"""Shorter texts are too short to tell their language."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply came to."""

    value: dict[str, Any] | None = None
    """The reply as its schema has it; None if it can't be used."""
    faults: tuple[str, ...] = ()
    """What is wrong, as the model is told when it is asked for a correction."""
    refusal: str | None = None
    """The model's reason for an ERROR, which the prompts allow; it is not asked again."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a reply is checked against, besides its schema."""

    emotion: Emotion | None = None
    """The clip's label."""
    verdict: str = ""
    """The right answer's first word where it is Yes or No, for rejected answers about agreement."""


def read_reply(text: str, finish_reason: str, step: Step, context: Context, *, paper: bool = False) -> Reading:
    """Check a reply.

    Args:
        text: The model's words.
        finish_reason: `length` if the reply was cut off.
        step: What it replies to.
        context: What it is checked against.
        paper: Whether the prompt was the paper's own text, whose replies have another form.
    """
    refusal = REFUSED.match(without_thoughts(text).strip())
    if refusal:
        return Reading(refusal=_short(refusal.group(1)) or "no reason given")
    value = find_json(text)
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return Reading(refusal=_short(value["error"]))
    if isinstance(value, str) and (refusal := REFUSED.match(value)):
        return Reading(refusal=_short(refusal.group(1)) or "no reason given")
    if finish_reason == "length":
        return Reading(faults=("it was cut off before its end; be briefer",))
    if paper:
        value = in_our_form(value, without_thoughts(text), step.name)
    if value is None:
        return Reading(faults=("it is not one JSON object",))
    if isinstance(value, dict):
        value = _tidy(value, step)
    faults = faults_of(_whole(value, step, paper), step.schema) or _content_faults(value, step, context)
    return Reading(faults=tuple(faults)) if faults else Reading(value=value)


def _whole(value: Any, step: Step, paper: bool) -> Any:
    """The reply as the schema has it: Fig. 35 asks for no irrelevant answer, and its replies need none."""
    absent = paper and step.schema == REJECTED and isinstance(value, dict) and value.get("irrelevant") is None
    return {**value, "irrelevant": "none asked for"} if absent else value


def find_json(text: str) -> Any:
    """The JSON value of a reply: bare, in a fence, or an object that stands among words; None if there is none.

    What a thinking model wrote to itself is taken off first.
    """
    bare = without_thoughts(text).strip()
    if fence := FENCE.match(bare):
        bare = fence.group(1).strip()
    try:
        return parse_plain_json(bare)
    except ValueError:
        pass
    start = bare.find("{")
    if start < 0:
        return None
    try:
        end = json.JSONDecoder().raw_decode(bare[start:])[1]
        return parse_plain_json(bare[start : start + end])
    except (ValueError, RecursionError):
        return None


def _tidy(value: dict[str, Any], step: Step) -> dict[str, Any]:
    """Forgive spellings that change nothing: `(C)` for `C`, `Happiness` for `happiness`."""
    if isinstance(value.get("emotion"), str):
        value = value | {"emotion": value["emotion"].strip().lower()}
    if step.name == "text_guess" and isinstance(value.get("answer"), str):
        letter = value["answer"].strip().strip("().").upper()
        value = value | {"answer": letter if letter not in ("NONE", "NULL", "") else None}
    questions = value.get("questions")
    if isinstance(questions, list) and all(isinstance(item, dict) for item in questions):
        return value | {"questions": [item | {"answer": _letter(item.get("answer"))} for item in questions]}
    return value


def _letter(answer: Any) -> Any:
    return answer.strip().strip("().").upper() if isinstance(answer, str) else answer


def _content_faults(value: dict[str, Any], step: Step, context: Context) -> list[str]:
    faults = [f"{where} is not in English" for where, text in _texts(value) if not is_english(text)]
    if step.schema in (CHOICES, YES_NO):
        for number, item in enumerate(value["questions"], start=1):
            faults += [f"question {number} {fault}" for fault in QUESTION_CHECKS[step.schema](item, step, context)]
    elif step.schema == REJECTED:
        faults += _rejected_faults(value, step, context)
    elif step.name == "description" and "\n" in value["description"].strip():
        faults.append("the description is not a single paragraph")
    return faults


def _choice_faults(item: Mapping[str, Any], step: Step, context: Context) -> list[str]:
    options = [choice[4:] for choice in item["choices"]]
    faults = _wording_faults([item["question"], *options])
    if context.emotion in emotions_named(words_of(item["question"])):
        faults.append(f"gives the emotion away: it must not name {context.emotion}")
    if len({option.strip().lower() for option in options}) < len(options):
        faults.append("has two equal options")
    if _uneven(options):
        faults.append("has options of very different length")
    return faults


def _yes_no_faults(item: Mapping[str, Any], step: Step, context: Context) -> list[str]:
    faults = _wording_faults([item["question"]])
    if step.expected_answer:
        if item["answer"] != step.expected_answer:
            faults.append(f"has the answer {item['answer']}; it has to be {step.expected_answer}")
        if context.emotion not in emotions_named(words_of(item["question"])):
            faults.append(f"does not name {context.emotion}")
    return faults


QUESTION_CHECKS: dict[str, Callable[[Mapping[str, Any], Step, Context], list[str]]] = {
    CHOICES: _choice_faults,
    YES_NO: _yes_no_faults,
}


def _rejected_faults(value: Mapping[str, Any], step: Step, context: Context) -> list[str]:
    names = ("correct", "video_relevant", "emotion_relevant", "irrelevant")
    answers = {name: str(value[name]) for name in names if value[name] is not None}
    faults = _wording_faults([value["question"], *answers.values()])
    if len({answer.strip().lower() for answer in answers.values()}) < len(answers):
        faults.append("two answers are equal")
    if _uneven([answers[name] for name in names[:3]]):
        faults.append("the answers are of very different length")
    if step.name == STEPS["rejected_agreement"].name:
        opposite = "no" if context.verdict.lower() == "yes" else "yes"
        wanted = dict(zip(names, (context.verdict.lower(), opposite, opposite), strict=False))
        for name, verdict in wanted.items():
            if words_of(answers[name])[:1] != [verdict]:
                faults.append(f"{name} has to begin with {verdict.capitalize()}")
    return faults


def _wording_faults(texts: Sequence[str]) -> list[str]:
    found = {match.group(1).lower() for text in texts for match in ABOUT_INPUT.finditer(text)}
    return [f"speaks of {', '.join(sorted(found))}"] if found else []


def _uneven(texts: Sequence[str]) -> bool:
    lengths = [len(words_of(text)) + 1 for text in texts]
    return max(lengths) > LONGEST_RATIO * min(lengths)


def is_english(text: str) -> bool:
    """Whether a text of some length can be English: mostly Latin letters, and at least one of its small words.

    A quotation in another language next to its translation passes, since captions contain such.
    """
    if not text.isascii():
        letters = [letter for letter in text if letter.isalpha()]
        if len(letters) >= 12 and sum(letter.isascii() for letter in letters) < 0.5 * len(letters):
            return False
    words = words_of(text)
    return len(words) < ENOUGH_WORDS or not ENGLISH.isdisjoint(words)


def _texts(value: Any, where: str = "") -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(where or "the reply", value)]
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in _texts(item, str(name))]
    if isinstance(value, list):
        return [found for item in value for found in _texts(item, where)]
    return []


def _short(text: str) -> str:
    line = " ".join(text.split()).strip("\"'` ")
    return line[:300]
