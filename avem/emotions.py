"""Emotion names: synonyms that datasets use, and a distance that says how different two labels are."""

from __future__ import annotations

from avem.records import Emotion

SYNONYMS: dict[str, Emotion] = {
    "happy": Emotion.HAPPINESS,
    "joy": Emotion.HAPPINESS,
    "joyful": Emotion.HAPPINESS,
    "hap": Emotion.HAPPINESS,
    "sad": Emotion.SADNESS,
    "angry": Emotion.ANGER,
    "ang": Emotion.ANGER,
    "surprised": Emotion.SURPRISE,
    "disgusted": Emotion.DISGUST,
    "dis": Emotion.DISGUST,
    "fearful": Emotion.FEAR,
    "scared": Emotion.FEAR,
    "afraid": Emotion.FEAR,
    "fea": Emotion.FEAR,
    "neu": Emotion.NEUTRAL,
}
"""Spellings seen in the datasets, lower case, beside the seven names themselves."""

VALENCE: dict[Emotion, int] = {
    Emotion.HAPPINESS: 1,
    Emotion.SURPRISE: 0,
    Emotion.NEUTRAL: 0,
    Emotion.SADNESS: -1,
    Emotion.ANGER: -1,
    Emotion.DISGUST: -1,
    Emotion.FEAR: -1,
}
"""Sign of each label's valence; surprise can be either and counts as 0."""


def parse_emotion(label: str) -> Emotion | None:
    """The emotion that a dataset's label means, or None where it is outside the seven."""
    name = label.strip().lower()
    try:
        return Emotion(name)
    except ValueError:
        return SYNONYMS.get(name)


def emotion_distance(first: Emotion, second: Emotion) -> int:
    """0 for the same label, 1 for another label, plus the difference of their valences (0 to 2)."""
    if first == second:
        return 0
    return 1 + abs(VALENCE[first] - VALENCE[second])
