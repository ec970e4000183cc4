"""Words that name an emotion, and how a text is cut into words."""

from __future__ import annotations

import re

from avem.records import Emotion

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")  # noqa: RUF001 - typographic apostrophes occur in replies
"""A run of letters, with apostrophes and hyphens inside."""

EMOTION_WORDS: dict[Emotion, str] = {
    Emotion.HAPPINESS: "happiness happy happier happily joy joyful joyfully joyous cheerful cheerfully cheerfulness",
    Emotion.SADNESS: "sadness sad sadder sadly saddened sorrow sorrowful sorrowfully",
    Emotion.NEUTRAL: "neutral neutrally neutrality",
    Emotion.ANGER: "anger angry angrier angrily angered furious furiously fury rage",
    Emotion.SURPRISE: "surprise surprised surprising surprisingly astonished astonishment",
    Emotion.DISGUST: "disgust disgusted disgusting disgustedly revulsion revolted",
    Emotion.FEAR: "fear fearful fearfully fearfulness afraid scared frightened terrified terror",
}
"""The labels, their inflections and their closest synonyms; words that merely suggest an emotion are left out."""

_EMOTION_OF = {word: emotion for emotion, words in EMOTION_WORDS.items() for word in words.split()}


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; punctuation and numbers are left out."""
    return WORD.findall(text.lower())


def emotions_named(words: list[str]) -> frozenset[Emotion]:
    """The emotions that a text's words name outright."""
    return frozenset(_EMOTION_OF[word] for word in words if word in _EMOTION_OF)
