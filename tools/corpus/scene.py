"""What a clip contains: the ground truth that the drawing, the voice and every question are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from avem.records import Emotion, Modality
from avem.tools.corpus.cues import BACKDROPS, BACKGROUND_SOUNDS, FACE_CUES, HATS, SHIRTS, VOICE_CUES, Cue

Item = TypeVar("Item")
EMOTIONS = tuple(Emotion)
AGREEING_SHARE = 0.6
"""Share of clips whose face and voice show the same emotion."""


@dataclass(frozen=True, slots=True)
class Person:
    """Looks and voice that show nothing."""

    skin: float
    """Tone, 0 dark to 1 light."""
    width: float
    """Of the head, 1 is usual."""
    pitch_hz: float
    """Of the voice at rest."""
    name: str = ""
    """Empty where every clip has a person of its own."""
    hair: str = ""
    """`short`, `long`, `curls`, or none."""
    hair_tone: float = 0.0
    """0 black to 1 fair."""
    glasses: bool = False
    formants: float = 1.0
    """Factor on the formants: a shorter throat has higher ones."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip's ground truth."""

    clip_id: str
    split: str
    emotion: Emotion
    """The clip's label: the emotion of the face, or of the voice where they differ and the voice was drawn."""
    face_emotion: Emotion
    voice_emotion: Emotion
    face_cues: tuple[Cue, ...]
    """Cues of the face's emotion that are there (one or two of three)."""
    voice_cues: tuple[Cue, ...]
    shirt: Cue
    backdrop: Cue
    hat: Cue | None
    sound: Cue
    person: Person
    shift: tuple[float, float]
    """Where the head is off the middle, in fractions of the frame."""
    seed: int
    extras: tuple[Cue, ...] = ()
    """Further things that are there and show no emotion, visible or audible."""

    @property
    def agrees(self) -> bool:
        """Whether face and voice show the same emotion."""
        return self.face_emotion == self.voice_emotion

    def present(self, modality: Modality) -> tuple[Cue, ...]:
        """Cues of the modality that are there and show its emotion."""
        return self.voice_cues if modality == Modality.AUDIO else self.face_cues

    def absent(self, modality: Modality) -> tuple[Cue, ...]:
        """Cues that would fit the emotion of the modality but are not there."""
        catalogue = VOICE_CUES if modality == Modality.AUDIO else FACE_CUES
        return tuple(cue for cue in catalogue[self.shown(modality)] if cue not in self.present(modality))

    def irrelevant(self, modality: Modality) -> tuple[Cue, ...]:
        """Cues that are there and show no emotion."""
        extras = tuple(cue for cue in self.extras if cue.modality == modality)
        if modality == Modality.AUDIO:
            return (self.sound, *extras)
        return (self.shirt, self.backdrop, *((self.hat,) if self.hat else ()), *extras)

    def shown(self, modality: Modality) -> Emotion:
        """The emotion that the modality shows."""
        return self.voice_emotion if modality == Modality.AUDIO else self.face_emotion

    def to_json(self) -> dict[str, Any]:
        """The ground-truth record as it is written next to the clips."""
        return {
            "clip_id": self.clip_id,
            "split": self.split,
            "emotion": self.emotion,
            "face_emotion": self.face_emotion,
            "voice_emotion": self.voice_emotion,
            "face_cues": [cue.name for cue in self.face_cues],
            "voice_cues": [cue.name for cue in self.voice_cues],
            "shirt": self.shirt.name,
            "backdrop": self.backdrop.name,
            "hat": self.hat.name if self.hat else None,
            "sound": self.sound.name,
            "extras": [cue.name for cue in self.extras],
            "person": asdict(self.person),
            "shift": self.shift,
            "seed": self.seed,
        }


def draw_scenes(clips: int, seed: int, test_share: float = 0.25) -> list[Scene]:
    """Draw the ground truth of a corpus.

    Emotions are balanced, each cue of an emotion is there in half of its clips, and everything else is independent of
    the emotion, so a question's text does not tell whether its cue is in the clip.

    Args:
        clips: How many clips.
        seed: Every draw comes from it; clip k is the same whatever the number of clips.
        test_share: Share of the clips in the `test` split; the rest is `train`.
    """
    period = max(round(1 / test_share), 1) if test_share > 0 else 0
    return [
        _draw_scene(number, seed, "test" if period and number % period == period - 1 else "train")
        for number in range(clips)
    ]


def _draw_scene(number: int, seed: int, split: str) -> Scene:
    rng = np.random.default_rng((seed, number))
    face = EMOTIONS[number % len(EMOTIONS)]
    voice = face if rng.random() < AGREEING_SHARE else another(face, rng)
    return Scene(
        clip_id=f"demo/{number:05d}",
        split=split,
        **draw_shown(face, voice, rng),
        sound=pick(BACKGROUND_SOUNDS, rng),
        person=Person(
            skin=round(float(rng.uniform(0, 1)), 3),
            width=round(float(rng.uniform(0.92, 1.08)), 3),
            pitch_hz=round(float(rng.uniform(120, 200)), 1),
        ),
        shift=(round(float(rng.uniform(-0.02, 0.02)), 4), round(float(rng.uniform(-0.02, 0.02)), 4)),
        seed=int(rng.integers(2**31)),
    )


def draw_shown(face: Emotion, voice: Emotion, rng: np.random.Generator) -> dict[str, Any]:
    """Draw the label, the cues, and what the picture holds besides: those fields of a `Scene`."""
    return {
        "emotion": face if rng.random() < 0.5 else voice,
        "face_emotion": face,
        "voice_emotion": voice,
        "face_cues": one_or_two(FACE_CUES[face], rng),
        "voice_cues": one_or_two(VOICE_CUES[voice], rng),
        "shirt": pick(SHIRTS, rng),
        "backdrop": pick(BACKDROPS, rng),
        "hat": pick(HATS, rng) if rng.random() < 0.5 else None,
    }


def another(emotion: Emotion, rng: np.random.Generator) -> Emotion:
    """Draw one of the other emotions."""
    return pick([other for other in EMOTIONS if other != emotion], rng)


def one_or_two(cues: tuple[Cue, ...], rng: np.random.Generator) -> tuple[Cue, ...]:
    """Draw one or two of some cues, in their order."""
    chosen = rng.permutation(len(cues))[: 1 + rng.integers(2)]
    return tuple(cues[index] for index in sorted(chosen))


def pick(values: Sequence[Item], rng: np.random.Generator) -> Item:
    """Draw one of some values."""
    return values[int(rng.integers(len(values)))]
