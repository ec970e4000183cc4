"""What an answer is worth, in plain sentences: each one is there only where it is known to be true."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from avem.evaluate.recognition.labels import parse_label
from avem.text.lists import listed
from avem.tools.ask.results import LABELS, ClipAnswer, Condition, Emotions

EVEN = 1.5
"""Bars are called nearly even where the longest is shorter than this many times an even split."""
MUCH = 3.0
"""How many times less likely an answer has to become without one side than without the other to rest on it."""
SOUND, PICTURE = "sound", "picture"
SOUND_WORDS = frozenset(("sound", "sounds", "voice", "audio", "hear", "heard", "tone", "speech"))
PICTURE_WORDS = frozenset(
    ("picture", "face", "image", "video", "see", "seen", "look", "looks", "visual", "eyes", "mouth")
)
MOST_WORDS = 8
"""Unknown words that are listed."""


def worth(clip: ClipAnswer) -> tuple[str, ...]:
    """What is known of how far a clip's answers can be relied on, a sentence or two for each thing known.

    Args:
        clip: Its answers, with what is known (`avem.tools.ask.results.Known`).
    """
    if clip.failed:
        return ()
    bars = _about_bars(clip)
    agreement = "" if bars else _about_both(clip)  # where the bars mean little, what they say does not count
    found = [_about_label(clip), agreement, *_about_sides(clip), _about_training(clip), *_about_words(clip), bars]
    return tuple(sentence for sentence in found if sentence)


def top_emotions(emotions: Emotions | None) -> tuple[str, ...]:
    """The emotion of the longest bar, or without bars those that the replies name; empty without any."""
    if emotions is None:
        return ()
    if emotions.logprobs:
        longest = emotions.longest()
        return () if longest is None else (longest[0],)
    return tuple(dict.fromkeys(name for name in emotions.named.get(Condition.FULL, ()) if name))


def named_emotions(clip: ClipAnswer) -> tuple[str, ...]:
    """The emotions that the answers name, as `avem bench` reads replies, without repetition."""
    found = (parse_label(part.answer, LABELS) for answer in clip.answers for part in answer.parts)
    return tuple(dict.fromkeys(name for name in found if name))


def _about_label(clip: ClipAnswer) -> str:
    label = clip.known.label
    if not label:
        return ""
    answers, bars = named_emotions(clip), top_emotions(clip.emotions)
    asked = "answer" if sum(len(answer.parts) for answer in clip.answers) == 1 else "answers"
    names = "name" if asked == "answers" else "names"
    drawn = clip.emotions is not None and bool(clip.emotions.logprobs)
    said = []
    if answers:
        said.append(f"the {asked} {names} {'the same' if answers == (label,) else listed(answers)}")
    if bars:
        subject = "the longest bar is" if drawn else "asked for the feeling, the model names"
        said.append(f"{subject} {'the same' if bars == (label,) else listed(bars)}")
    return f"The clip's label in {clip.known.labelled_in} is {label}" + (f"; {listed(said)}." if said else ".")


def _about_both(clip: ClipAnswer) -> str:
    """That the answer and the bars name different feelings; with a label, this is said beside it."""
    answers, bars = named_emotions(clip), top_emotions(clip.emotions)
    if clip.known.label or len(answers) != 1 or len(bars) != 1 or answers == bars:
        return ""
    alone = f"asked for the feeling alone the model says {bars[0]}"
    return f"The answer names {answers[0]}, and {alone}: it contradicts itself."


def _about_sides(clip: ClipAnswer) -> Iterable[str]:
    """Which side an answer about the other one rests on, as far as leaving each out tells."""
    for answer in clip.answers:
        without_sound, without_picture = map(answer.change, (Condition.NO_SOUND, Condition.NO_PICTURE))
        asked = _side_asked(answer.question)
        if without_sound is None or without_picture is None or asked is None:
            continue
        own, other = (without_sound, without_picture) if asked == SOUND else (without_picture, without_sound)
        if own - other > math.log(MUCH):
            rests = PICTURE if asked == SOUND else SOUND
            which = "" if len(clip.answers) == 1 else f" to {_quoted(answer.question)}"
            yield f"The question is about the {asked}, and the answer{which} rests mostly on the {rests}."


def _side_asked(question: str) -> str | None:
    """The side that a question names; None where it names neither or both."""
    words = set(re.findall(r"[a-z]+", question.lower()))
    sound, picture = bool(words & SOUND_WORDS), bool(words & PICTURE_WORDS)
    return None if sound == picture else SOUND if sound else PICTURE


def _about_training(clip: ClipAnswer) -> str:
    known = clip.known
    if known.trained is None and known.training:
        return f"Whether the model was trained on this clip is not known: {known.training}."
    if known.trained is not True:
        return ""
    how = f" ({known.training})" if known.training else ""
    return (
        f"The model was trained on this clip{how}, so even a right answer does not show what it can do with new ones."
    )


def _about_words(clip: ClipAnswer) -> Iterable[str]:
    several = len(clip.answers) > 1
    usual = f" It was most often trained on {_quoted(clip.known.usual)}" if clip.known.usual else ""
    for answer in clip.answers:
        if words := clip.known.unknown.get(answer.question):
            which = f"the question {_quoted(answer.question)}" if several else "the question"
            lacks = f"The model has no word for {_words(words)} in {which}"
            yield f"{lacks}: it reads each as the same unknown word.{usual}"
            usual = ""


def _about_bars(clip: ClipAnswer) -> str:
    emotions, known = clip.emotions, clip.known
    longest = None if emotions is None else emotions.longest()
    if emotions is None or longest is None:
        return ""
    causes = []
    if known.bars_asked is False:
        causes.append("their question is none of those that the model was trained on")
    asked = () if known.bars_asked is False else known.unknown.get(emotions.question, ())
    lacked = {"in their question": asked, "in their answers": known.bars_unknown}
    if any(lacked.values()):
        words = " and ".join(f"for {_words(words)} {where}" for where, words in lacked.items() if words)
        causes.append(f"the model has no word {words}")
    if causes:
        cure = "--emotion-question and --emotion-answer ask in words that it knows"
        return f"The bars mean little: {listed(causes)}. {cure}."
    name, share = longest
    even = 1 / len(LABELS)
    if share >= EVEN * even:
        return ""
    return (
        f"The bars are nearly even: the longest, {name}, has {100 * share:.0f} %, and an even split gives each "
        f"{100 * even:.0f} %. So which one is longest says little."
    )


def _words(words: Sequence[str]) -> str:
    more = len(words) - MOST_WORDS
    return listed([*map(_quoted, words[:MOST_WORDS]), *([f"{more} more"] if more > 0 else [])])


def _quoted(text: str) -> str:
    return f'"{text}"'
