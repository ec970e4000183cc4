"""Emotion labels: the classes of each dataset, their prompts, and a strict reader of replies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avem.errors import SettingError
from avem.evaluate.emorealm.replies import answer_of
from avem.evaluate.predict.predictor import STREAMS

SEVEN = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")

SPELLINGS: dict[str, tuple[str, ...]] = {
    "happiness": ("happiness", "happy"),
    "sadness": ("sadness", "sad"),
    "neutral": ("neutral",),
    "anger": ("anger", "angry"),
    "surprise": ("surprise", "surprised"),
    "disgust": ("disgust", "disgusted"),
    "fear": ("fear", "fearful"),
}
"""The words whose likelihoods are summed for a label: the noun and the adjective."""

READ_AS: dict[str, tuple[str, ...]] = {
    "happiness": ("happily", "joy", "joyful", "joyous", "cheerful", "delighted", "amused", "amusement", "excited"),
    "sadness": ("sadly", "sorrow", "sorrowful", "unhappy", "grief", "heartbroken", "melancholy", "depressed"),
    "neutral": ("neutrality", "calm", "emotionless", "indifferent"),
    "anger": ("angrily", "furious", "fury", "rage", "enraged", "irritated", "annoyed", "mad"),
    "surprise": ("surprising", "astonished", "astonishment", "amazed", "amazement", "shocked", "startled"),
    "disgust": ("disgusting", "revulsion", "repulsed", "revolted"),
    "fear": ("afraid", "scared", "frightened", "terrified", "terror", "fright"),
}
"""Further words that a written reply may use."""

CHINESE: dict[str, tuple[str, ...]] = {
    "happiness": ("高兴", "快乐", "开心", "喜悦", "愉快"),
    "sadness": ("悲伤", "难过", "伤心", "忧伤"),
    "neutral": ("中性", "中立", "平静"),
    "anger": ("愤怒", "生气", "恼怒"),
    "surprise": ("惊讶", "吃惊", "惊奇"),
    "disgust": ("厌恶", "恶心", "反感"),
    "fear": ("恐惧", "害怕", "惊恐"),
}
"""Words of replies in Chinese, which are not set apart by spaces."""

FIELDS = ("emotion", "label", "answer", "final_answer", "prediction", "category", "class", "情感", "情绪", "答案")
"""Where a reply in JSON may keep its label."""

NEGATIONS = frozenset(("not", "no", "never", "neither", "nor", "without", "isn't", "doesn't", "hardly"))
NEGATION_REACH = 3
"""A negation cancels label words up to this many words after it."""

STREAM_CHOICES: dict[str, tuple[str, ...]] = {"audiovisual": STREAMS, "video": ("video",), "audio": ("audio",)}
"""What a model is shown of each clip: the columns of Table 19."""

PROMPTS = {
    "audiovisual": "Describe the emotion of the person in the video in one word.",
    "video": "Describe the emotion of the person in the video in one word.",
    "audio": "Describe the emotion of the person in the audio in one word.",
}


@dataclass(frozen=True, slots=True)
class EmotionSet:
    """A dataset of labelled clips, as the paper evaluates on it (C.4, D.1)."""

    name: str
    """As the dataset's reader calls it, and the store's manifest."""
    title: str
    classes: tuple[str, ...]
    headline: tuple[str, ...]
    """The metrics its table leads with."""
    splits: tuple[str, ...] = ()
    """The split to score: the first of these that the store has; otherwise all clips."""


EMOTION_SETS: dict[str, EmotionSet] = {
    each.name: each
    for each in (
        EmotionSet("dfew", "DFEW", SEVEN, ("uar", "war"), ("test",)),
        EmotionSet("ravdess", "RAVDESS", SEVEN, ("uar", "war")),
        EmotionSet("mer2023", "MER2023", SEVEN[:5], ("weighted_f1",), ("test3", "test1")),
        EmotionSet("crema-d", "CREMA-D", tuple(x for x in SEVEN if x != "surprise"), ("uar", "war")),
        EmotionSet("mer2026", "MER2026", SEVEN[:5], ("weighted_f1",), ("train",)),
        EmotionSet("meld", "MELD", SEVEN, ("weighted_f1",), ("test",)),
        EmotionSet("iemocap", "IEMOCAP", SEVEN[:4], ("uar", "war"), ("session5",)),
    )
}


def emotion_set(name: str) -> EmotionSet:
    """A dataset by name.

    Raises:
        SettingError: There is none of that name; the message lists them.
    """
    if name not in EMOTION_SETS:
        raise SettingError(f"There is no emotion set {name!r}; choose one of {', '.join(EMOTION_SETS)}.")
    return EMOTION_SETS[name]


def spellings(classes: Sequence[str]) -> tuple[str, ...]:
    """The words that are scored, label by label."""
    return tuple(word for label in classes for word in SPELLINGS[label])


def parse_label(reply: str, classes: Sequence[str]) -> str | None:
    """The one label that a reply names, or None.

    The thoughts of a reasoning model are removed first, and a label in tags or JSON is unpacked. The first
    sentence that names any label decides; if it names several, the reply names none. A label word shortly after a
    negation ("not angry") does not count. Labels outside `classes` are read too, but give no prediction. Chinese is
    read as well.

    Args:
        reply: Raw text of the model.
        classes: The labels that may be given.
    """
    for sentence in re.split(r"[.!?;\n]+|\bbut\b|但", answer_of(reply, FIELDS).lower()):
        words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", sentence)
        named = {
            label
            for index, word in enumerate(words)
            if (label := _LABEL_OF.get(word)) and not NEGATIONS & set(words[max(0, index - NEGATION_REACH) : index])
        }
        named |= {label for label, words in CHINESE.items() for word in words if _affirmed(word, sentence)}
        if named:
            label = named.pop()
            return label if not named and label in classes else None
    return None


def _affirmed(word: str, sentence: str) -> bool:
    """Whether a Chinese sentence holds a word without a negation right before it."""
    return re.search(rf"(?<![不没无非])(?<!没有)(?<!不是){word}", sentence) is not None


def _label_of(*tables: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {word: label for table in tables for label, words in table.items() for word in words}


_LABEL_OF = _label_of(SPELLINGS, READ_AS)
