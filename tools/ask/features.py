"""Asks models that read features: encodes clips in memory, or takes them from a store that holds them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.cache import FeatureStore, StreamSpec
from avem.cache.windows import clip_spans
from avem.chat_templates import DATE
from avem.errors import AvemError, FingerprintError, MediaError, MissingFileError, UnknownClipError
from avem.evaluate.predict.loading import choose_device, open_model
from avem.extract import ExtractOptions
from avem.extract.in_memory import ClipEncoder, EncodedRow, clip_parts
from avem.files import file_sha256, json_sha256
from avem.tools.ask.base_encoders import PAIR_FAMILIES, encoder_marks, encoders_of
from avem.tools.ask.emotions import EmotionQuestion
from avem.tools.ask.evidence import WHOLE, Evidence, Rows, explained
from avem.tools.ask.held import HeldClips
from avem.tools.ask.inputs import AskedClip, as_other
from avem.tools.ask.memory import MemoryStore
from avem.tools.ask.remedies import find_remedies, known_stores
from avem.tools.ask.results import AskedModel, ClipAnswer, Condition, Emotions, Known, QuestionAnswer, Span
from avem.tools.ask.settings import SAMPLING, AskOptions, refuse_sampling
from avem.tools.ask.worth.history import History
from avem.tools.ask.worth.known import known_of

if TYPE_CHECKING:
    from avem.train.data.store_streams import StoreStream
    from avem.train.families.base import FamilyModel

logger = logging.getLogger(__name__)

KINDS = {
    "generic": "built with avem",
    "avere": "AVERE",
    "emotion_llama": "Emotion-LLaMA",
    "qwen2_5_omni": "Qwen2.5-Omni",
    "qwen3_omni": "Qwen3-Omni",
}
"""Families of models, as readers know them."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A clip, or a window of it, with its features."""

    span: Span | None
    rows: dict[str, EncodedRow]
    """By name of the stream."""
    duration_s: float | None
    problems: tuple[str, ...] = ()


class FeatureSession:
    """Asks one model about clips; the model is loaded once, encoders when a clip first needs them.

    Args:
        options: The model, its encoders, and the store that may hold the clips.
        model: The model where it is loaded already.

    Raises:
        AvemError: The model or the store can't be used.
    """

    def __init__(self, options: AskOptions, model: FamilyModel | None = None) -> None:
        self.options = options
        self.model = open_model(options.model, options.device, options.precision) if model is None else model
        self._emotions = EmotionQuestion.of(options)
        self._history = History.of(options.model)
        self._other: tuple[AskedClip, list[_Held]] | None = None
        self._clips: HeldClips | None = None
        self._read: dict[str, StreamSpec] = {}
        if options.cache is not None:
            self._clips = self._held_in(FeatureStore.open(options.cache))

    @property
    def about(self) -> AskedModel:
        """The model's source and family."""
        return AskedModel(self.options.model, KINDS.get(self.model.family, self.model.family))

    def identity(self) -> dict[str, Any]:
        """The digest of the model, and the options."""
        options = self.options.identity("system", "media")
        return {"model": self.model.fingerprint(), "options": options, "date": DATE.date().isoformat()}

    def content(self, clip: AskedClip) -> dict[str, Any]:
        """The digest of the clip's file, its windows in the store, and what its features are made with.

        Raises:
            UnknownClipError: The store does not hold it.
        """
        clips = self._holding(clip)
        if clips is not None and (rows := clips.rows(clip)):
            table = clips.store.clips
            spans, digests = clip_spans(table), table["sha256"]
            features = {name: json_sha256(handle.fingerprint) for name, handle in clips.handles.items()}
            return {"features": features, "rows": [[digests[row].as_py(), spans[row]] for row in rows]}
        return {"file": file_sha256(self._path_of(clip)), "encoders": encoder_marks(self.options, self.model.family)}

    def ask(self, clip: AskedClip, questions: Sequence[str], against: AskedClip | None = None) -> ClipAnswer:
        """Ask about one clip.

        Args:
            clip: A file, or a clip of the store.
            questions: What to ask.
            against: The clip whose sound and picture are put in the place of its own.

        Raises:
            MediaError: The clip can't be decoded.
            DataError: It lacks what the model needs.
            UnknownClipError: The store holds no such clip.
            FingerprintError: The model was trained on other features.
        """
        held, source = self._held(clip)
        others = [] if against is None else self._held_other(against)
        memory = MemoryStore(self._specs)
        rows = [memory.add(part.rows) for part in held]
        their_rows = [memory.add(part.rows) for part in others]
        try:
            evidence = Evidence.over(self.model, memory)
        except FingerprintError as error:
            advice = "" if clip.path is None else self._advice(clip.path)
            raise explained(error, self.options.model, advice) from error
        shown: list[dict[Condition, Rows]] = []
        for number, row in enumerate(rows):
            other = their_rows[min(number, len(their_rows) - 1)] if their_rows else None
            shown.append(evidence.conditions(row, other))
        spans = tuple(part.span for part in held)
        lengths = [part.duration_s for part in held if part.duration_s is not None]
        return ClipAnswer(
            clip.name,
            clip.path or (None if self._clips is None else self._clips.file_of(clip)),
            spans,
            sum(lengths) if lengths else None,
            source,
            self._feels(evidence, shown),
            tuple(self._answer(evidence, question, shown, spans) for question in questions),
            "" if against is None else against.name,
            (*self._notes(held), *(one_sided(shown) if len(evidence.builder.streams.sides) > 1 else ())),
            known=self.known(clip, questions),
        )

    def known(self, clip: AskedClip, questions: Sequence[str]) -> Known:
        """What is known of a clip and of the model besides the answer.

        Raises:
            UnknownClipError: The store does not hold a clip that is named by its id.
        """
        digest = file_sha256(self._path_of(clip)) if self._clips is None else self._clips.digest(clip)
        holding = self._holding(clip)
        stores = [each.store for each in (self._clips, holding) if each is not None]
        return known_of(digest, stores, self._history, self.model.tokenizer, questions, self._emotions)

    def _notes(self, held: Sequence[_Held]) -> tuple[str, ...]:
        said = [problem for part in held for problem in part.problems]
        return (*dict.fromkeys(said), *((WHOLE,) if self.model.whole_clips else ()))

    def _feels(self, evidence: Evidence, shown: Sequence[dict[Condition, Rows]]) -> Emotions:
        common = [each for each in Condition if all(each in conditions for conditions in shown)]
        return Emotions(
            self._emotions.question,
            {
                each: tuple(evidence.emotions(self._emotions, conditions[each]) for conditions in shown)
                for each in common
            },
        )

    def _answer(
        self,
        evidence: Evidence,
        question: str,
        shown: Sequence[dict[Condition, Rows]],
        spans: Sequence[Span | None],
    ) -> QuestionAnswer:
        parts = tuple(
            replace(evidence.answer(question, conditions, self.options.max_new_tokens), span=span)
            for conditions, span in zip(shown, spans, strict=True)
        )
        return QuestionAnswer(question, parts)

    # ---- features -------------------------------------------------------------------------------------------------

    @cached_property
    def _encoder(self) -> ClipEncoder:
        """The model's encoders; where there is a store too, those that it was made with.

        Raises:
            FingerprintError: They make other features than the store holds.
        """
        options = self.options
        own = self.model.family not in PAIR_FAMILIES
        settings: dict[str, Any] = {
            "device": choose_device(options.device),
            "fps": options.fps,
            "frames": options.frames,
            "min_pixels": options.min_pixels,
            "max_pixels": options.max_pixels,
            "fill_missing": options.fill_missing,
        }
        if own:
            settings["model"] = encoders_of(options.model)
        else:
            refuse_sampling(options, SAMPLING, "reads frames in one way only")
            settings |= {"video_encoder": options.video_encoder, "audio_encoder": options.audio_encoder}
        encoder = ClipEncoder(ExtractOptions(**settings))
        made = {spec.name: spec for spec in encoder.specs.values()}
        for handle in self._handles.values():
            spec = made.get(handle.name)
            if spec is not None and json_sha256(spec.fingerprint) != json_sha256(dict(handle.fingerprint)):
                raise explained(
                    FingerprintError(f"The encoders make other {handle.name} features than {options.cache} holds."),
                    options.model,
                )
        return encoder

    @property
    def _handles(self) -> Mapping[str, StoreStream]:
        """The store's streams that the model reads."""
        return {} if self._clips is None else self._clips.handles

    def _advice(self, path: Path) -> str:
        """What to give so that a clip can be asked about; empty where nothing is on this machine."""
        return find_remedies(self._history, path, self.model, self.options).advice

    def _held_in(self, store: FeatureStore) -> HeldClips:
        """A store as this model reads it."""
        return HeldClips(store, self.model, self.options.model, windows=self.options.windows)

    def _holding(self, clip: AskedClip) -> HeldClips | None:
        """The store that a clip is read from: the one that was named, or another known one that holds its content.

        If encoders or their sampling are named and no store is, the clip is encoded.

        Raises:
            UnknownClipError: The clip is named by its id, and the store that was named does not hold it.
        """
        if clip.path is None or (self._clips is not None and self._clips.rows(clip)):
            return self._clips
        if self._clips is None and self.options.names_encoding:
            return None
        return next((each for each in self._known_stores if each.rows(clip)), self._clips)

    @cached_property
    def _known_stores(self) -> tuple[HeldClips, ...]:
        """Other stores than the one that was named (`known_stores`), as far as they suit the model."""
        found = []
        for path, store in known_stores(self._history, self.options).items():
            if self.options.cache is not None and path.samefile(self.options.cache):
                continue
            try:
                found.append(self._held_in(store))
            except (AvemError, OSError) as error:
                logger.debug("%s is not for this model: %s", path, error)
        return tuple(found)

    @property
    def _specs(self) -> dict[str, StreamSpec]:
        """Every stream that features may come in, by name."""
        specs = dict(self._read)
        specs |= {handle.name: handle.spec for handle in self._handles.values() if handle.name not in specs}
        if not specs or "_encoder" in self.__dict__:
            specs |= {spec.name: spec for spec in self._encoder.specs.values() if spec.name not in specs}
        return specs

    def _held(self, clip: AskedClip) -> tuple[list[_Held], str]:
        """A clip's features, part by part, and where they come from.

        Raises:
            MediaError: Nothing of the clip can be decoded.
            UnknownClipError: The store does not hold it.
        """
        clips = self._holding(clip)
        if clips is not None and (rows := clips.rows(clip)):
            spans = clip_spans(clips.store.clips)
            held = [_Held(spans[row], clips.read(row), clips.store.clip(row).get("duration_s")) for row in rows]
            self._read |= {handle.name: handle.spec for handle in clips.handles.values()}
            return held, f"{clips.source(clip)}{'' if clips is self._clips else self._without()}"
        return self._encoded(self._path_of(clip)), f"encoded now{self._without()}"

    def _without(self) -> str:
        """That the store that was named does not hold a clip; empty where none was."""
        return "" if self.options.cache is None else f"; {self.options.cache} does not hold it"

    def _path_of(self, clip: AskedClip) -> Path:
        """The file to encode.

        Raises:
            UnknownClipError: The clip is named by its id, and the store has no features of it.
        """
        if clip.path is None:
            raise UnknownClipError(f"{self.options.cache} has no features of {clip.name} that the model reads.")
        return clip.path

    def _held_other(self, clip: AskedClip) -> list[_Held]:
        """The clip that all are compared with; kept, since it is mostly the same one.

        Raises:
            SettingError: It can't be used, so that no other clip could be answered either.
        """
        if self._other is None or self._other[0] != clip:
            with as_other(clip):
                self._other = (clip, self._held(clip)[0])
        return self._other[1]

    def _encoded(self, path: Path) -> list[_Held]:
        """Encode a file.

        Raises:
            MediaError: Nothing of it can be decoded.
            MissingFileError: An encoder is not there; the message says what is there instead.
        """
        try:
            encoder = self._encoder
        except MissingFileError as error:
            advice = self._advice(path)
            raise MissingFileError(f"{str(error).partition(';')[0]}; {advice}.") if advice else error from error
        parts = clip_parts([path], windows=self.options.windows)[0]
        held = []
        for part, made in zip(parts, encoder.encode(parts), strict=True):
            if not made.rows or all(slot in made.problems for slot in encoder.specs):
                raise MediaError("; ".join(dict.fromkeys(made.problems.values())))
            rows = {encoder.specs[slot].name: row for slot, row in made.rows.items()}
            problems = tuple(f"No {slot}: {reason.rstrip('.')}." for slot, reason in made.problems.items())
            held.append(_Held(part.span, rows, made.duration_s, problems))
        return held


def one_sided(shown: Sequence[Mapping[Condition, Rows]]) -> tuple[str, ...]:
    """That a clip was shown without its sound or its picture because it has none; nothing where it has both.

    Args:
        shown: Of each part of the clip, the rows that a condition shows.

    Example:
        >>> one_sided([{Condition.FULL: (0, None), Condition.TEXT: (None, None)}])
        ('The clip has no sound that the model can read, so only the picture was shown.',)
    """
    video, audio = (any(part[Condition.FULL][side] is not None for part in shown) for side in (0, 1))
    if video == audio:
        return ()
    lacking, there = ("sound", "picture") if video else ("picture", "sound")
    return (f"The clip has no {lacking} that the model can read, so only the {there} was shown.",)
