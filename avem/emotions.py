"""The one emotion lexicon: names and synonyms of the seven labels, near misses, and how different two labels are."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches

from avem.records import Emotion

_WORDS: dict[Emotion, str] = {
    Emotion.HAPPINESS: "happy joy joyful joyous glad gladness cheerful cheerfulness delight delighted hap",
    Emotion.SADNESS: "sad unhappy unhappiness sorrow sorrowful grief mournful sadly",
    Emotion.NEUTRAL: "neutrality neu",
    Emotion.ANGER: "angry mad rage raging enraged fury furious wrath angered ang",
    Emotion.SURPRISE: "surprised surprising surprize astonished astonishment amazed amazement sur",
    Emotion.DISGUST: "disgusted disgusting revulsion repulsed dis",
    Emotion.FEAR: "fearful scared afraid frightened terrified fea",
}

SYNONYMS: dict[str, Emotion] = {word: emotion for emotion, words in _WORDS.items() for word in words.split()}
"""Words that mean a label, lower case, beside the seven names themselves."""

_OUTSIDE_WORDS = (
    "anxiety anxious boredom bored calm calmness confusion confused contempt contemptuous disappointment disappointed "
    "embarrassment excited excitement frustration frustrated guilt helplessness helpless interest love other pain "
    "pride relief shame tired unknown worried worry none"
)
OUTSIDE = frozenset(_OUTSIDE_WORDS.split())
"""Words that datasets label with and that mean none of the seven; they are close to none of them either."""

_TRANSLATIONS: dict[Emotion, str] = {
    Emotion.HAPPINESS: "freude glücklich fröhlich froh joie heureux heureuse felicidad feliz alegría 高兴 快乐 开心",
    Emotion.SADNESS: "trauer traurig traurigkeit tristesse triste tristeza 悲伤 伤心 难过",
    Emotion.NEUTRAL: "neutre neutro 中性 平静",
    Emotion.ANGER: "wut wütend ärger verärgert zorn zornig colère fâché enojo enojado ira enfado enfadado 生气 愤怒",
    Emotion.SURPRISE: "überraschung überrascht étonnement étonné sorpresa sorprendido 惊讶 惊喜",
    Emotion.DISGUST: "ekel angeekelt dégoût dégoûté asco disgusto 厌恶",
    Emotion.FEAR: "angst ängstlich furcht peur effrayé miedo asustado 害怕 恐惧",
}
TRANSLATED: dict[str, Emotion] = {word: emotion for emotion, words in _TRANSLATIONS.items() for word in words.split()}
"""Words of other languages (German, French, Spanish, Chinese). A label in one of them is suggested, not understood:
`angst` is not fear in English."""


def _plain(word: str) -> str:
    """The word without accents: `colere` is how many keyboards write the French word for anger."""
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))


def _with_umlauts(word: str) -> str:
    """A German word with the umlauts that are written as `ae`, `oe` and `ue` where there are none to type."""
    return re.sub("(?<=[aou])e", "", word)


_PLAIN_TRANSLATED = {_plain(word): emotion for word, emotion in TRANSLATED.items()}

SEVERAL = re.compile(r"[/,;+&|_]|\band\b|\bor\b")
"""What stands between the parts of a label that names several emotions."""

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
    """The emotion that a dataset's label means, or None where it is outside the seven.

    Example:
        >>> parse_emotion(" Happy "), parse_emotion("suprise")
        (<Emotion.HAPPINESS: 'happiness'>, None)
    """
    name = label.strip().lower()
    try:
        return Emotion(name)
    except ValueError:
        return SYNONYMS.get(name)


def nearest_words(label: str) -> list[str]:
    """The known word nearest to a label that is not understood, or its translation; of several parts, one for each.

    Returns:
        Words that `parse_emotion` understands, without repetition; none where nothing is near.

    Example:
        >>> nearest_words("suprise"), nearest_words("happy/sad"), nearest_words("contempt"), nearest_words("Wut")
        (['surprise'], ['happy', 'sad'], [], ['anger'])
        >>> nearest_words("wuetend"), nearest_words("Colere")
        (['anger'], ['anger'])
    """
    known = [*map(str, Emotion), *SYNONYMS]
    found: list[str] = []
    for part in SEVERAL.split(label.strip().lower()):
        word = re.sub(r"^[\W\d]+|[\W\d]+$", "", part)
        if word and word not in OUTSIDE:
            meant = _PLAIN_TRANSLATED.get(_plain(word)) or _PLAIN_TRANSLATED.get(_plain(_with_umlauts(word)))
            near_ones = get_close_matches(word, known, n=1, cutoff=0.7) if meant is None else [str(meant)]
            found += [near for near in near_ones if near not in found]
    return found


def emotion_distance(first: Emotion, second: Emotion) -> int:
    """0 for the same label, 1 for another label, plus the difference of their valences (0 to 2)."""
    if first == second:
        return 0
    return 1 + abs(VALENCE[first] - VALENCE[second])
