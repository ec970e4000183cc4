"""The records that pass between the rooms: emotions, modalities, clips, and the rows of the data files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from avem.errors import SettingError

RATE_HZ = 16000
"""Samples per second of all sound in avem."""


class Emotion(StrEnum):
    """The seven labels of the paper: neutral and the six basic emotions (Ekman, 2005)."""

    HAPPINESS = "happiness"
    SADNESS = "sadness"
    NEUTRAL = "neutral"
    ANGER = "anger"
    SURPRISE = "surprise"
    DISGUST = "disgust"
    FEAR = "fear"


class Modality(StrEnum):
    """What a question is about, the m of Eq. 5."""

    AUDIO = "audio"
    VISUAL = "visual"
    AUDIOVISUAL = "audiovisual"

    @classmethod
    def parse(cls, name: str) -> Modality:
        """The modality of a name; `video` is another name of `visual`.

        Raises:
            SettingError: There is no such modality.
        """
        try:
            return cls.VISUAL if name == "video" else cls(name)
        except ValueError as error:
            raise SettingError(f"There is no modality {name!r}; choose audio, visual or audiovisual.") from error

    @property
    def streams(self) -> tuple[Kind, ...]:
        """The streams that a question of this modality is about, and that its rejected input replaces (Eq. 5)."""
        return STREAMS[self]

    @property
    def table(self) -> str:
        """Name of the modality's negatives in a store: `audio`, `video` or `audiovisual`."""
        return "video" if self is Modality.VISUAL else str(self)


Kind = Literal["video", "audio"]
"""A stream of features."""

STREAMS: dict[Modality, tuple[Kind, ...]] = {
    Modality.AUDIO: ("audio",),
    Modality.VISUAL: ("video",),
    Modality.AUDIOVISUAL: ("video", "audio"),
}
"""The streams of each modality."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip as a dataset reader finds it, before anything is decoded."""

    clip_id: str
    """Unique in a store: `<dataset>/<path without suffix>` unless the dataset names its own."""
    dataset: str
    path: str
    """Media file, relative to the dataset's root, with forward slashes."""
    emotion: Emotion | None = None
    """None where the raw label is outside the seven or missing."""
    emotions_raw: str = ""
    """The label as the dataset spells it."""
    split: str = ""
    source: str = ""
    """Speaker or source video; clips of one source are never each other's negatives. Empty: unknown."""
    audio_path: str = ""
    """A separate sound file, relative to the root, where the layout has one."""
    subtitle: str = ""
    """What is said, where the dataset's table has it; subtitle files beside clips are read by extraction."""


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """One row of preference data (section 4.3): a question on a clip, the chosen answer and the rejected ones."""

    row_id: str
    clip_id: str
    modality: Modality
    task: str
    question: str
    chosen: str
    rejected_video_relevant: str
    """y_l^vr: a cue that is in the clip but does not explain the emotion."""
    rejected_emotion_relevant: str
    """y_l^er: a cue that fits the emotion but is not in the clip."""
    rejected_irrelevant: str | None = None
    emotion: Emotion | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row as its JSON Lines object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class InstructionRow:
    """One row of supervised data: a question on a clip and its answer."""

    row_id: str
    clip_id: str
    modality: Modality
    task: str
    question: str
    answer: str

    def to_json(self) -> dict[str, Any]:
        """The row as its JSON Lines object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Question:
    """One multiple-choice question in the form of the released `emorealm_v1.json`."""

    id: str
    video: str
    """Clip file, relative to the benchmark's clip folder."""
    task: str
    question: str
    choices: tuple[str, ...]
    """Options as they are shown, each starting with its letter: `(A) ...`."""
    answer: str
    """Letter of the right option."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Every other field of the file, kept as it is (the controlled corpus keeps `subtask` here)."""

    def to_json(self) -> dict[str, Any]:
        """The question as an object of the benchmark file."""
        known = {name: getattr(self, name) for name in ("id", "video", "task", "question", "answer")}
        return {**known, "choices": list(self.choices), **self.extra}
