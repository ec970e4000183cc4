"""The proof's scenes: several persons, several cues and distractions at once, modalities that often disagree.

Persons of one split are in no other: a model is evaluated on faces and voices it has never seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avem.records import Emotion
from avem.tools.corpus.cues import BACKGROUND_SOUNDS, FURTHER_SOUNDS, OBJECTS, Cue
from avem.tools.corpus.scene import EMOTIONS, Person, Scene, another, draw_shown, pick

AGREEING_SHARE = 0.5
HAIR = ("", "short", "long", "curls")


@dataclass(frozen=True, slots=True)
class Split:
    """How much of a split there is."""

    clips: int
    persons: int


BASE, PREFERENCE, VALIDATION, TEST = "base", "preference", "validation", "test"
SPLITS: Mapping[str, Split] = {
    BASE: Split(2400, 200),
    PREFERENCE: Split(2800, 240),
    VALIDATION: Split(420, 40),
    TEST: Split(3360, 120),
}
"""The base is trained on clips of its own, as the paper's is; preferences, settings and results each have theirs."""


def draw_splits(splits: Mapping[str, Split], seed: int) -> list[Scene]:
    """Draw the ground truth of every split.

    Emotions of the face are balanced; every cue of an emotion is there in half of its clips; everything else is
    independent of the emotion.

    Args:
        splits: Name to size.
        seed: Every draw comes from it; a split's clips are the same whatever the size of the others.
    """
    scenes = []
    for number, (name, size) in enumerate(splits.items()):
        persons = draw_persons(name, size.persons, np.random.default_rng((seed, number, 0)))
        scenes += [
            _draw(
                f"proof/{name}-{clip:05d}",
                name,
                EMOTIONS[clip % len(EMOTIONS)],
                persons,
                np.random.default_rng((seed, number, 1, clip)),
            )
            for clip in range(size.clips)
        ]
    return scenes


def draw_persons(split: str, count: int, rng: np.random.Generator) -> list[Person]:
    """Draw persons: looks and voices."""
    return [
        Person(
            skin=round(float(rng.uniform(0, 1)), 3),
            width=round(float(rng.uniform(0.88, 1.12)), 3),
            pitch_hz=round(float(rng.uniform(95, 230)), 1),
            name=f"{split}-{number:03d}",
            hair=pick(HAIR, rng),
            hair_tone=round(float(rng.uniform(0, 1)), 3),
            glasses=bool(rng.random() < 0.3),
            formants=round(float(rng.uniform(0.85, 1.2)), 3),
        )
        for number in range(count)
    ]


def _draw(clip_id: str, split: str, face: Emotion, persons: Sequence[Person], rng: np.random.Generator) -> Scene:
    voice = face if rng.random() < AGREEING_SHARE else another(face, rng)
    first, second = _several(BACKGROUND_SOUNDS + FURTHER_SOUNDS, 2, rng)
    return Scene(
        clip_id=clip_id,
        split=split,
        **draw_shown(face, voice, rng),
        sound=first,
        person=pick(persons, rng),
        shift=(round(float(rng.uniform(-0.03, 0.03)), 4), round(float(rng.uniform(-0.03, 0.03)), 4)),
        seed=int(rng.integers(2**31)),
        extras=(*_several(OBJECTS, 1 + int(rng.integers(2)), rng), second),
    )


def _several(cues: tuple[Cue, ...], count: int, rng: np.random.Generator) -> list[Cue]:
    return [cues[index] for index in sorted(rng.permutation(len(cues))[:count])]
