"""What asking gives: answers under several conditions, emotions, and what each answer depends on; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from avem.records import Emotion

VERSION = 1
"""Of the JSON; raised when a field changes its meaning."""
LABELS = tuple(str(emotion) for emotion in Emotion)
"""The seven emotions, in the order of every list of seven numbers here."""

Span = tuple[float, float]
"""Start and end of a window, in seconds."""


class Condition(StrEnum):
    """What a model is shown of a clip."""

    FULL = "as_it_is"
    NO_SOUND = "without_sound"
    NO_PICTURE = "without_picture"
    TEXT = "text_alone"
    OTHER_SOUND = "other_sound"
    OTHER_PICTURE = "other_picture"

    @property
    def words(self) -> str:
        """For readers."""
        return WORDS[self]


WORDS = {
    Condition.FULL: "as it is",
    Condition.NO_SOUND: "without sound",
    Condition.NO_PICTURE: "without picture",
    Condition.TEXT: "text alone",
    Condition.OTHER_SOUND: "other sound",
    Condition.OTHER_PICTURE: "other picture",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model says to a question under one condition."""

    answer: str
    logprob: float | None = None
    """Log-probability, in nats, of the answer that was given to the clip as it is; None where it is not available."""


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """The answer for a clip, or for a window of it."""

    readings: Mapping[Condition, Reading]
    span: Span | None = None
    cut: bool = False
    """Whether the answer was as long as answers may be, so that it may go on."""

    @property
    def answer(self) -> str:
        """The answer to the clip as it is."""
        return self.readings[Condition.FULL].answer


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """One question on a clip."""

    question: str
    parts: tuple[PartAnswer, ...]
    """One, or one for each window in the order of time."""

    def logprob(self, condition: Condition) -> float | None:
        """The answer's log-probability under a condition, of windows the mean; None where one is not known."""
        found = [part.readings[condition].logprob for part in self.parts if condition in part.readings]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known and len(known) == len(self.parts) else None

    def change(self, condition: Condition) -> float | None:
        """How much the answer's log-probability changes under a condition; below 0 where it becomes less likely."""
        there, full = self.logprob(condition), self.logprob(Condition.FULL)
        return None if there is None or full is None else there - full

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions under which every part was asked."""
        return tuple(each for each in Condition if all(each in part.readings for part in self.parts))


@dataclass(frozen=True, slots=True)
class Emotions:
    """How likely a model finds each of the seven emotions, or which it names."""

    question: str
    logprobs: Mapping[Condition, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """Of each part and each of `LABELS`, in nats; empty where log-probabilities are not available."""
    named: Mapping[Condition, tuple[str, ...]] = field(default_factory=dict)
    """Where there are none: of each part the label that the reply names, or an empty text."""

    def shares(self, condition: Condition) -> tuple[float, ...] | None:
        """Each emotion's share, of windows by the mean log-probability; they sum to 1. None where they are not known.

        Example:
            >>> even = Emotions("?", {Condition.TEXT: ((-2.0,) * 7,)})
            >>> round(sum(even.shares(Condition.TEXT)), 6), even.shares(Condition.FULL)
            (1.0, None)
        """
        parts = self.logprobs.get(condition)
        if not parts:
            return None
        return softmax([sum(values) / len(parts) for values in zip(*parts, strict=True)])

    def longest(self) -> tuple[str, float] | None:
        """The emotion of the longest bar for the clip as it is, and its share; None where there are no bars."""
        shares = self.shares(Condition.FULL)
        return None if shares is None else max(zip(LABELS, shares, strict=True), key=lambda each: each[1])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that are known."""
        known = self.logprobs or self.named
        return tuple(each for each in Condition if each in known)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known besides the answer; whatever is not known is empty or None."""

    label: str = ""
    """The clip's emotion."""
    labelled_in: str = ""
    """The store that says so."""
    trained: bool | None = None
    """Whether the model was trained on the clip."""
    training: str = ""
    """As which clip of which rows of which run; where that is not known, what is gone or has changed."""
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By question, the words of it that the model has no token for; questions without such words are left out."""
    bars_asked: bool | None = None
    """Whether the model was trained on the question of the bars."""
    bars_unknown: tuple[str, ...] = ()
    """Words of the answers that the bars score that the model has no token for, where an emotion has no other."""
    usual: str = ""
    """The question that most of the rows ask that the model was trained on."""


@dataclass(frozen=True, slots=True)
class ClipAnswer:
    """Everything that was asked about one clip; a clip that could not be used has `failed` alone."""

    name: str
    """As the user named it."""
    path: Path | None = None
    """The media file, where there is one."""
    spans: tuple[Span | None, ...] = (None,)
    """Its windows, or None for the whole clip."""
    duration_s: float | None = None
    source: str = ""
    """Where the features come from, for readers."""
    emotions: Emotions | None = None
    answers: tuple[QuestionAnswer, ...] = ()
    other: str = ""
    """Name of the clip whose sound and picture were put in the place of its own."""
    notes: tuple[str, ...] = ()
    """What else to know, a sentence each."""
    failed: str = ""
    known: Known = Known()

    def to_json(self) -> dict[str, Any]:
        """The clip as `avem ask --json` prints it."""
        if self.failed:
            return {"version": VERSION, "clip": self.name, "failed": self.failed}
        return {
            "version": VERSION,
            "clip": self.name,
            "duration_s": self.duration_s,
            "windows": [list(span) for span in self.spans if span is not None],
            "features": self.source,
            "other": self.other or None,
            "emotions": None if self.emotions is None else _emotions_json(self.emotions),
            "answers": [_answer_json(answer) for answer in self.answers],
            "notes": list(self.notes),
            "known": _known_json(self.known),
        }


@dataclass(frozen=True, slots=True)
class AskedModel:
    """The model that answers."""

    source: str
    """Folder, hub id, or name and address."""
    kind: str
    """Its family, or how it is run."""
    missing: tuple[str, ...] = ()
    """What it can't say, a sentence each."""
    notes: tuple[str, ...] = ()
    """What else to know, such as why it is asked what nobody asked."""


def softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Shares that sum to 1 from log-probabilities.

    Example:
        >>> softmax([0.0, 0.0])
        (0.5, 0.5)
    """
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return tuple(weight / sum(weights) for weight in weights)


def _known_json(known: Known) -> dict[str, Any]:
    return {
        "label": known.label or None,
        "labelled_in": known.labelled_in or None,
        "trained_on": known.trained,
        "training": known.training or None,
        "unknown_words": {question: list(words) for question, words in known.unknown.items()},
        "bars_asked_in_training": known.bars_asked,
        "unknown_words_of_bars": list(known.bars_unknown),
        "usual_question": known.usual or None,
    }


def _emotions_json(emotions: Emotions) -> dict[str, Any]:
    shares = {each: emotions.shares(each) for each in emotions.conditions}
    return {
        "question": emotions.question,
        "shares": {
            str(each): dict(zip(LABELS, values, strict=True)) for each, values in shares.items() if values is not None
        },
        "logprobs": {
            str(each): [dict(zip(LABELS, values, strict=True)) for values in parts]
            for each, parts in emotions.logprobs.items()
        },
        "named": {str(each): list(names) for each, names in emotions.named.items()},
    }


def _answer_json(answer: QuestionAnswer) -> dict[str, Any]:
    parts = [
        {
            "window": None if part.span is None else list(part.span),
            "answer": part.answer,
            "cut": part.cut,
            "conditions": {
                str(each): {"answer": reading.answer, "logprob": reading.logprob}
                for each, reading in part.readings.items()
            },
        }
        for part in answer.parts
    ]
    changes = {str(each): answer.change(each) for each in answer.conditions if each != Condition.FULL}
    return {"question": answer.question, "changes": changes, "parts": parts}
