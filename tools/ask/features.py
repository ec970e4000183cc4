"""Asks models that read features: encodes clips in memory, or takes them from a store that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avem.cache import FeatureStore, StreamSpec
from avem.cache.windows import clip_spans, whole_ids
from avem.chat_templates import DATE
from avem.errors import FingerprintError, MediaError, UnknownClipError
from avem.evaluate.predict.loading import choose_device, open_model
from avem.extract import ExtractOptions
from avem.extract.in_memory import ClipEncoder, EncodedRow, clip_parts
from avem.files import file_sha256, json_sha256
from avem.tools.ask.base_encoders import PAIR_FAMILIES, encoder_marks, encoders_of
from avem.tools.ask.emotions import EmotionQuestion
from avem.tools.ask.evidence import WHOLE, Evidence, Rows, explained
from avem.tools.ask.inputs import AskedClip, as_other
from avem.tools.ask.memory import MemoryStore
from avem.tools.ask.results import AskedModel, ClipAnswer, Condition, Emotions, QuestionAnswer, Span
from avem.tools.ask.settings import SAMPLING, AskOptions, refuse_sampling
from avem.train.data.store_streams import StoreStream, find_streams
from avem.train.data.streams import PAIR
from avem.train.model.media import SIDES

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


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
        self._store = None if options.cache is None else FeatureStore.open(options.cache)
        self._handles: dict[str, StoreStream] = {}
        self._other: tuple[AskedClip, list[_Held]] | None = None
        if self._store is not None:
            self._handles = self._streams_of(self._store)

    @property
    def about(self) -> AskedModel:
        """The model's source and family."""
        return AskedModel(self.options.model, self.model.family)

    def identity(self) -> dict[str, Any]:
        """The digest of the model, and the options."""
        options = self.options.identity("system", "media")
        return {"model": self.model.fingerprint(), "options": options, "date": DATE.date().isoformat()}

    def content(self, clip: AskedClip) -> dict[str, Any]:
        """The digest of the clip's file, its windows in the store, and what its features are made with.

        Raises:
            UnknownClipError: The store does not hold it.
        """
        rows = self._rows_in_store(clip)
        if rows and self._store is not None:
            spans, digests = clip_spans(self._store.clips), self._store.clips["sha256"]
            features = {name: json_sha256(handle.fingerprint) for name, handle in self._handles.items()}
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
            raise explained(error, self.options.model) from error
        shown: list[dict[Condition, Rows]] = []
        for number, row in enumerate(rows):
            other = their_rows[min(number, len(their_rows) - 1)] if their_rows else None
            shown.append(evidence.conditions(row, other))
        spans = tuple(part.span for part in held)
        lengths = [part.duration_s for part in held if part.duration_s is not None]
        return ClipAnswer(
            clip.name,
            clip.path or self._file_of(clip),
            spans,
            sum(lengths) if lengths else None,
            source,
            self._feels(evidence, shown),
            tuple(self._answer(evidence, question, shown, spans) for question in questions),
            "" if against is None else against.name,
            self._notes(held),
        )

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
    def _specs(self) -> dict[str, StreamSpec]:
        """Every stream that features may come in, by name."""
        specs = {handle.name: handle.spec for handle in self._handles.values()}
        if not specs or "_encoder" in self.__dict__:
            specs |= {spec.name: spec for spec in self._encoder.specs.values() if spec.name not in specs}
        return specs

    def _held(self, clip: AskedClip) -> tuple[list[_Held], str]:
        """A clip's features, part by part, and where they come from.

        Raises:
            MediaError: Nothing of the clip can be decoded.
            UnknownClipError: The store does not hold it.
        """
        rows = self._rows_in_store(clip)
        if rows and self._store is not None:
            spans = clip_spans(self._store.clips)
            held = [_Held(spans[row], self._read(row), self._store.clip(row).get("duration_s")) for row in rows]
            return held, f"from {self._store.location.url}"
        return self._encoded(self._path_of(clip)), "encoded now"

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
        encoder = self._encoder
        parts = clip_parts([path], windows=self.options.windows)[0]
        held = []
        for part, made in zip(parts, encoder.encode(parts), strict=True):
            if not made.rows or all(slot in made.problems for slot in encoder.specs):
                raise MediaError("; ".join(dict.fromkeys(made.problems.values())))
            rows = {encoder.specs[slot].name: row for slot, row in made.rows.items()}
            problems = tuple(f"No {slot}: {reason}." for slot, reason in made.problems.items())
            held.append(_Held(part.span, rows, made.duration_s, problems))
        return held

    def _streams_of(self, store: FeatureStore) -> dict[str, StoreStream]:
        """The store's streams that the model reads."""
        return find_streams(
            store,
            getattr(self.model, "streams", PAIR),
            [side for side in SIDES if self.model.takes(side)],
            self.model.expected_digest,
            self.options.model,
        )

    def _rows_in_store(self, clip: AskedClip) -> list[int]:
        """Rows of a clip in the store with features: its own, or those of its windows in the order of time."""
        store = self._store
        if store is None:
            return []
        owners, spans = whole_ids(store.clips), clip_spans(store.clips)
        if clip.path is None:
            names = store.clips["clip_id"].to_pylist()
            found = [row for row, name in enumerate(names) if name == clip.name]
            found = found or [row for row, owner in enumerate(owners) if owner == clip.name]
            if not found:
                store.rows([clip.name])  # says what there is
        else:
            digest = file_sha256(clip.path)
            found = [row for row, sha256 in enumerate(store.clips["sha256"].to_pylist()) if sha256 == digest]
            found = [row for row in found if owners[row] == owners[found[0]]]
        there = np.zeros(len(store.clips), dtype=np.bool_)
        for handle in self._handles.values():
            there |= np.asarray(handle.available, dtype=np.bool_)
        found = [row for row in found if there[row]]
        windows = [row for row in found if spans[row] is not None]
        whole = [row for row in found if spans[row] is None]
        use = windows if windows and (self.options.windows or not whole) else whole
        return sorted(use, key=lambda row: spans[row] or (0.0, 0.0))

    def _read(self, row: int) -> dict[str, EncodedRow]:
        """A clip's features from the store, by name of the stream."""
        found = {}
        for handle in self._handles.values():
            if handle.available[row]:
                companions = {name: handle.companion(name, [row])[0] for name in handle.spec.companions}
                found[handle.name] = EncodedRow(handle.rows([row])[0], companions)
        return found

    def _file_of(self, clip: AskedClip) -> Path | None:
        """The media file of a clip of the store, if it still exists."""
        rows = self._rows_in_store(clip)
        if not rows or self._store is None:
            return None
        path = self._store.media_path(rows[0])
        return path if path.is_file() else None
