"""The cues of the controlled corpus: which exist, which emotion each one shows, and how it is called in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from avem.records import Emotion, Modality


@dataclass(frozen=True, slots=True)
class Cue:
    """Something that can be seen or heard in a clip."""

    name: str
    modality: Modality
    phrase: str
    """The cue as a noun phrase, without an article: `raised fist`."""
    plural: bool = False
    emotion: Emotion | None = None
    """The emotion that the cue shows; None for a cue that shows none."""

    def shows(self, emotion: Emotion) -> str:
        """The claim that the cue shows an emotion, as the clause of a sentence: `the raised fist shows anger`."""
        return f"the {self.phrase} {'show' if self.plural else 'shows'} {emotion}"

    def asks(self, emotion: Emotion) -> str:
        """The claim as a question: `Does the raised fist show anger?`."""
        return f"{'Do' if self.plural else 'Does'} the {self.phrase} show {emotion}?"

    def looked_for(self) -> str:
        """The question whether the cue is there: `Is the raised fist there?`."""
        return f"{'Are' if self.plural else 'Is'} the {self.phrase} there?"


def _face_cues(emotion: Emotion, *cues: tuple[str, str, bool]) -> tuple[Cue, ...]:
    return tuple(Cue(name, Modality.VISUAL, phrase, plural, emotion) for name, phrase, plural in cues)


def _voice_cues(emotion: Emotion, *cues: tuple[str, str, bool]) -> tuple[Cue, ...]:
    return tuple(Cue(name, Modality.AUDIO, phrase, plural, emotion) for name, phrase, plural in cues)


FACE_CUES: dict[Emotion, tuple[Cue, ...]] = {
    Emotion.HAPPINESS: _face_cues(
        Emotion.HAPPINESS,
        ("smile", "broad smile", False),
        ("laughing_eyes", "laughing eyes", True),
        ("clapping", "clapping hands", True),
    ),
    Emotion.SADNESS: _face_cues(
        Emotion.SADNESS,
        ("frown", "drooping mouth", False),
        ("tears", "tears", True),
        ("low_lids", "heavy eyelids", True),
    ),
    Emotion.ANGER: _face_cues(
        Emotion.ANGER,
        ("teeth", "bared teeth", True),
        ("v_brows", "lowered brows", True),
        ("fist", "raised fist", False),
    ),
    Emotion.SURPRISE: _face_cues(
        Emotion.SURPRISE,
        ("o_mouth", "round mouth", False),
        ("wide_eyes", "wide eyes", True),
        ("palms", "thrown-up palms", True),
    ),
    Emotion.DISGUST: _face_cues(
        Emotion.DISGUST,
        ("tongue", "stuck-out tongue", False),
        ("nose", "wrinkled nose", False),
        ("push", "turned-away hand", False),
    ),
    Emotion.FEAR: _face_cues(
        Emotion.FEAR,
        ("wavy_mouth", "quivering mouth", False),
        ("slant_brows", "slanted brows", True),
        ("pale", "pale skin", False),
    ),
    Emotion.NEUTRAL: _face_cues(
        Emotion.NEUTRAL,
        ("flat_mouth", "level mouth", False),
        ("flat_brows", "level brows", True),
        ("folded", "folded hands", True),
    ),
}
"""What a face or body can show, three cues an emotion; a clip shows one or two of them."""

VOICE_CUES: dict[Emotion, tuple[Cue, ...]] = {
    Emotion.HAPPINESS: _voice_cues(
        Emotion.HAPPINESS,
        ("laughter", "laughter", False),
        ("high_pitch", "bright pitch", False),
        ("fast", "quick pace", False),
    ),
    Emotion.SADNESS: _voice_cues(
        Emotion.SADNESS,
        ("sobbing", "sobbing", False),
        ("falling", "falling pitch", False),
        ("quiet", "faint voice", False),
    ),
    Emotion.ANGER: _voice_cues(
        Emotion.ANGER,
        ("loud", "loud voice", False),
        ("growl", "growling", False),
        ("thuds", "pounding thuds", True),
    ),
    Emotion.SURPRISE: _voice_cues(
        Emotion.SURPRISE,
        ("gasp", "gasp", False),
        ("rising", "rising pitch", False),
        ("long_oh", "drawn-out oh", False),
    ),
    Emotion.DISGUST: _voice_cues(
        Emotion.DISGUST,
        ("groan", "groan", False),
        ("cough", "retching", False),
        ("hiss", "hissing", False),
    ),
    Emotion.FEAR: _voice_cues(
        Emotion.FEAR,
        ("tremor", "trembling voice", False),
        ("scream", "scream", False),
        ("breaths", "rapid breaths", True),
    ),
    Emotion.NEUTRAL: _voice_cues(
        Emotion.NEUTRAL,
        ("monotone", "even pitch", False),
        ("slow", "measured pace", False),
        ("hum", "calm hum", False),
    ),
}
"""What a voice can carry, three cues an emotion; a clip carries one or two of them."""

SHIRTS = tuple(
    Cue(f"shirt_{colour}", Modality.VISUAL, f"{colour} shirt") for colour in ("red", "blue", "green", "yellow")
)
BACKDROPS = tuple(
    Cue(name, Modality.VISUAL, phrase, plural=True)
    for name, phrase in (("stripes", "striped walls"), ("dots", "dotted walls"), ("checks", "checked walls"))
)
HATS = (Cue("hat", Modality.VISUAL, "black hat"), Cue("cap", Modality.VISUAL, "white cap"))
BACKGROUND_SOUNDS = (
    Cue("music", Modality.AUDIO, "background music"),
    Cue("rain", Modality.AUDIO, "rain"),
    Cue("sonar", Modality.AUDIO, "sonar ping"),
    Cue("ticking", Modality.AUDIO, "ticking clock"),
)
"""Things that are there and show no emotion."""

OBJECTS = (
    Cue("balloon", Modality.VISUAL, "purple balloon"),
    Cue("lamp", Modality.VISUAL, "hanging lamp"),
    Cue("picture", Modality.VISUAL, "framed picture"),
    Cue("plant", Modality.VISUAL, "potted plant"),
)
FURTHER_SOUNDS = (
    Cue("engine", Modality.AUDIO, "engine drone"),
    Cue("chirps", Modality.AUDIO, "bird chirps", plural=True),
)
"""More of them, for corpora with several at once."""
