"""Which model answers, with which encoders, and how; without torch, so that the command line starts fast."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.errors import DataError, MissingFileError, SettingError
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.files import write_atomic
from avem.guards.inputs import need_model, need_store
from avem.reading import read_json

if TYPE_CHECKING:
    from avem.evaluate.predict.loading import EndpointOptions

KIT = "ask.json"
"""File in a folder that says which of its models to ask, and how; `avem demo` leaves one."""
DEMO = Path("demo")
RUN = Path("runs/avem-dpo")
"""Where `avem train` puts its result unless it is told otherwise."""
QUESTION = "What does the person feel, and what in the picture and the sound shows it?"
"""Asked where no question is given."""
TOKENS = 128
"""Longest answer in tokens."""
SAMPLING = ("fps", "frames", "min_pixels", "max_pixels", "fill_missing")
"""Fields of `AskOptions` that only some families have."""
SLOT = "{}"
"""Stands for the emotion in an answer's template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """Which model answers, and what it is shown."""

    model: str
    endpoint: EndpointOptions | None = None
    """Where the model answers, if not here."""
    cache: Path | None = None
    """A store that may hold the clips already."""
    video_encoder: str = DEFAULT_VIDEO_ENCODER
    audio_encoder: str = DEFAULT_AUDIO_ENCODER
    fps: float | None = None
    frames: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    fill_missing: str | None = None
    media: bool = False
    """Show the model media files through its adapter, even where avem could give it features."""
    windows: bool = True
    """Whether clips longer than 30 s are asked about window by window."""
    question: str = QUESTION
    """Asked where no question is given."""
    question_of: str = ""
    """The `ask.json` that names that question."""
    stores: tuple[Path, ...] = ()
    """Stores besides `cache` that may hold the clip."""
    emotion_question: str | None = None
    """What the seven bars are answers to; None for the question of `avem bench ravdess`."""
    emotion_answer: str | None = None
    """The answer that is scored for each emotion, with `{}` for its name; None for the label's noun and adjective."""
    max_new_tokens: int = TOKENS
    device: str = "auto"
    precision: str = "auto"
    system: str | None = None

    def identity(self, *unused: str) -> dict[str, Any]:
        """What answers depend on besides model, clip and question, as JSON.

        Args:
            *unused: Further fields that make no difference to the model.
        """
        never = {"model", "endpoint", "cache", "question", "question_of", "stores", "device", "precision", *unused}
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in never}

    @property
    def names_encoding(self) -> bool:
        """Whether encoders, or how they sample, were chosen."""
        usual = AskOptions(model=self.model)
        names = ("video_encoder", "audio_encoder", *SAMPLING)
        return any(getattr(self, name) != getattr(usual, name) for name in names)

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            SettingError: One of them can't.
        """
        if self.max_new_tokens < 1:
            raise SettingError(f"--max-new-tokens must be at least 1, not {self.max_new_tokens}.")
        if self.emotion_answer is not None and SLOT not in self.emotion_answer:
            raise SettingError(f"--emotion-answer needs {SLOT} where the emotion stands, as 'The person feels {SLOT}.'")
        if self.emotion_answer is not None and self.emotion_question is None:
            raise SettingError("--emotion-answer needs the question that it answers, with --emotion-question.")


def refuse_sampling(options: AskOptions, names: Sequence[str], why: str) -> None:
    """Refuse settings of sampling that the model does not have.

    Args:
        options: What was asked for.
        names: Fields that would be ignored.
        why: What the model does instead.

    Raises:
        SettingError: One of them is set.
    """
    for name in names:
        if getattr(options, name) is not None:
            raise SettingError(f"{options.model} {why}; leave --{name.replace('_', '-')} out.")


def check_options(options: AskOptions) -> AskOptions:
    """Look for everything that is read before anything heavy is loaded.

    Raises:
        MissingFileError: A model, an encoder or a store is not there.
    """
    if options.endpoint is None:
        need_model(options.model)
        if options.video_encoder != DEFAULT_VIDEO_ENCODER:
            need_model(options.video_encoder, "--video-encoder")
        if options.audio_encoder != DEFAULT_AUDIO_ENCODER:
            need_model(options.audio_encoder, "--audio-encoder")
    if options.cache is not None:
        need_store(options.cache)
    return options


def default_kit() -> Path | None:
    """What to ask where no model is named: the last training's result, else what the demo left; None without either."""
    if (RUN / "final" / "config.json").is_file():
        return RUN
    return DEMO if (DEMO / KIT).is_file() else None


def with_kit(options: AskOptions) -> AskOptions:
    """Options whose model is a folder with an `ask.json`, completed by what it says; what was given stays.

    Args:
        options: `model` empty for the default one.

    Raises:
        SettingError: No model was named, and there is none to fall back on.
        DataError: The `ask.json` is not one.
    """
    if not options.model:
        kit = default_kit()
        if kit is None:
            raise SettingError(
                f"No model was named, and there is none in {RUN} or {DEMO}; give --model, or run `avem demo` first."
            )
        options = replace(options, model=str(kit))
    folder = Path(options.model)
    if options.endpoint is not None:
        return options
    if not (folder / KIT).is_file():
        kit = _kit_of(folder)
        return options if kit is None else _completed(options, kit, QUESTION_FIELDS)
    return _completed(options, folder / KIT, KIT_FIELDS)


def _completed(options: AskOptions, kit: Path, names: Collection[str]) -> AskOptions:
    """Options completed by the fields of an `ask.json`; what was given stays."""
    known = _read_kit(kit)
    usual = AskOptions(model=options.model)
    found: dict[str, Any] = {
        name: str(kit.parent / value) if name in PATH_FIELDS else value
        for name, value in known.items()
        if name in names
    }
    if "cache" in found:
        found["cache"] = Path(found["cache"])
        if not found["cache"].is_dir():
            del found["cache"]  # the clips are encoded, then
        elif options.cache is not None:
            found["stores"] = (found["cache"],)
    kept = {name for name in found if name == "model" or getattr(options, name) == getattr(usual, name)}
    changed = {name: found[name] for name in kept}
    if "question" in changed:
        changed["question_of"] = str(kit)
    return replace(options, **changed)


def _kit_of(model: Path) -> Path | None:
    """The `ask.json` in a folder above a model's that names this model; None if there is none."""
    if not model.is_dir():
        return None
    real = model.resolve()
    for above in [*real.parents][:KIT_LEVELS]:
        if (above / KIT).is_file():
            named = (above / _read_kit(above / KIT)["model"]).resolve()
            return Path(os.path.relpath(above)) / KIT if named in (real, real / "final") else None
    return None


def write_kit(folder: Path, **settings: str) -> Path:
    """Leave an `ask.json` in a folder, so that `avem ask --model FOLDER` knows its model and encoders.

    Args:
        folder: Where the paths in it are relative to.
        **settings: `model`, and any of `cache`, `video_encoder`, `audio_encoder`, `question`, `emotion_question` and
            `emotion_answer`.

    Returns:
        The file.
    """
    import json

    write_atomic(folder / KIT, json.dumps({**settings}, indent=1) + "\n")
    return folder / KIT


QUESTION_FIELDS = frozenset(("question", "emotion_question", "emotion_answer"))
PATH_FIELDS = frozenset(("model", "cache", "video_encoder", "audio_encoder"))
KIT_FIELDS = QUESTION_FIELDS | PATH_FIELDS
KIT_LEVELS = 4
"""Folders above a model in which its `ask.json` is looked for; the demo's is three above."""


def _read_kit(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = read_json(path, dict)
    except MissingFileError:
        raise
    except DataError as error:
        raise DataError(f"{path} is not what `avem demo` left ({error}); give the model's own folder.") from error
    if "model" not in known or not known.keys() <= KIT_FIELDS or not all(isinstance(x, str) for x in known.values()):
        raise DataError(f"{path} should hold texts named {', '.join(sorted(KIT_FIELDS))}; give the model's own folder.")
    return known
