"""What answers to basic questions name: the corpus knows of every option whether it is there and whether it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from avem.evaluate.emorealm.metrics import Outcome
from avem.records import Modality, Question
from avem.tools.corpus.rows import kinds, sentence
from avem.tools.corpus.scene import Scene

NAMED = {
    "there": "a cue that is there and fits",
    "absent": "a cue that fits and is absent",
    "meaningless": "a thing that means nothing",
}
"""Kinds of options and what they are."""


def named(outcomes: Sequence[Outcome], scenes: Mapping[str, Scene]) -> dict[str, float]:
    """How often answers to basic questions name what.

    Args:
        outcomes: Answers to any questions.
        scenes: Clip id to ground truth, of all clips asked about.

    Returns:
        `NAMED` to percent of the basic questions.
    """
    basic = [outcome for outcome in outcomes if outcome.question.task.startswith("reasoning_basic")]
    counts = Counter(kind_of(one.question, one.letter, scenes[clip_of(one.question)]) for one in basic)
    return {kind: 100 * counts[kind] / len(basic) for kind in NAMED}


def clip_of(question: Question) -> str:
    """The clip's id; a question's id is that with its number."""
    return question.id.rsplit("#", 1)[0]


def kind_of(question: Question, letter: str | None, scene: Scene) -> str:
    """The kind of the option that a basic question was answered by, empty for no answer."""
    side = Modality.AUDIO if question.task.endswith("audio") else Modality.VISUAL
    said = dict(choice[1:].split(") ", 1) for choice in question.choices).get(letter or "")
    for kind, cues in zip(NAMED, kinds(scene, side), strict=True):
        if said in {sentence(cue.shows(scene.shown(side))) for cue in cues}:
            return kind
    return ""
