"""Asks models that are shown media files: those that an adapter runs, and those behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore
from avem.errors import DataError, EndpointError, MediaError, MissingFileError
from avem.evaluate.predict.media_model import FRAMES, ClipMedia, MediaModel, MediaRequest
from avem.evaluate.predict.predictor import Answer
from avem.evaluate.recognition.labels import parse_label
from avem.extract import probe
from avem.extract.decode.media import read_sound, read_video
from avem.extract.in_memory import ClipPart, clip_parts
from avem.files import file_sha256
from avem.tools.ask.emotions import NAME_TOKENS, EmotionQuestion
from avem.tools.ask.inputs import AskedClip, as_other
from avem.tools.ask.results import (
    LABELS,
    AskedModel,
    ClipAnswer,
    Condition,
    Emotions,
    Known,
    PartAnswer,
    QuestionAnswer,
    Reading,
)
from avem.tools.ask.settings import SAMPLING, AskOptions, refuse_sampling
from avem.tools.ask.worth.known import label_of

NO_LIKELIHOODS = (
    "The endpoint gives no log-probabilities of answers, so there are no bars and no changes in nats. It is asked "
    "again without sound, without picture and without both instead."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a model is shown: the picture of one file, or none, and the sound of one file, or none."""

    picture: ClipPart | None = None
    sound: ClipPart | None = None


@dataclass(frozen=True, slots=True)
class ShownRequest(MediaRequest):
    """A request whose picture and sound may come from two files, or from a window of one."""

    shown: Shown = Shown()

    def media(self, frames: int) -> ClipMedia:
        """Decode what is shown.

        Raises:
            MediaError: A part of it can't be decoded.
        """
        picture, sound = self.shown.picture, self.shown.sound
        video = None if picture is None else read_video(picture.path, frames, span=picture.span)
        samples = None if sound is None else read_sound(sound.path, span=sound.span).samples
        if video is None:
            return ClipMedia(None, samples)
        return ClipMedia(video.frames, samples, video.duration_s)


class MediaSession:
    """Asks one model that is shown media files.

    Args:
        options: How to ask.
        model: The model, here or behind an endpoint.
        kind: How it is run, for readers.

    Raises:
        SettingError: An option is set that this model does not have.
    """

    def __init__(self, options: AskOptions, model: MediaModel, kind: str) -> None:
        unknown = [name for name in SAMPLING if name != "frames" or options.endpoint is None]
        refuse_sampling(options, unknown, f"is shown media files ({FRAMES} frames; an endpoint takes --frames)")
        self.options, self.model, self._kind = options, model, kind
        self._likelihood = "likelihood" in model.methods
        self._emotions = EmotionQuestion.of(options)
        self._store = None if options.cache is None else FeatureStore.open(options.cache)

    @property
    def about(self) -> AskedModel:
        """The model's source, how it is run, and what it can't say."""
        return AskedModel(self.model.source, self._kind, () if self._likelihood else (NO_LIKELIHOODS,))

    def identity(self) -> dict[str, Any]:
        """The model's identity and the options."""
        unused = ("video_encoder", "audio_encoder", "fps", "min_pixels", "max_pixels", "fill_missing")
        return {"model": self.model.identity(), "options": self.options.identity(*unused)}

    def content(self, clip: AskedClip) -> dict[str, Any]:
        """The digest of the clip's file.

        Raises:
            UnknownClipError: The store does not hold it.
            MissingFileError: The file is gone.
        """
        return {"file": file_sha256(self._file(clip))}

    def ask(self, clip: AskedClip, questions: Sequence[str], against: AskedClip | None = None) -> ClipAnswer:
        """Ask about one clip; see `avem.tools.ask.features.FeatureSession.ask`.

        Raises:
            MediaError: The clip can't be decoded.
            DataError: It has nothing that the model takes.
            EndpointError: The endpoint gave no answer.
        """
        path = self._file(clip)
        parts = clip_parts([path], windows=self.options.windows)[0]
        others = self._others(against)
        shown = [
            self.conditions(part, others[min(number, len(others) - 1)] if others else None)
            for number, part in enumerate(parts)
        ]
        emotions = self._feels(shown)
        answers = []
        for question in questions:
            found = [self._answer(question, each, part) for each, part in zip(shown, parts, strict=True)]
            answers.append(QuestionAnswer(question, tuple(found)))
        return ClipAnswer(
            clip.name,
            path,
            tuple(part.span for part in parts),
            probe(path).duration_s,
            "shown as a media file",
            emotions,
            tuple(answers),
            "" if against is None else against.name,
            known=self.known(clip, questions),
        )

    def known(self, clip: AskedClip, questions: Sequence[str]) -> Known:
        """The clip's label, where a store has it; adapters and endpoints do not say what they were trained on.

        Raises:
            UnknownClipError: The store does not hold a clip that is named by its id.
        """
        return Known() if self._store is None else Known(*label_of(file_sha256(self._file(clip)), [self._store]))

    def conditions(self, part: ClipPart, other: ClipPart | None) -> dict[Condition, Shown]:
        """What a clip can be shown as to this model.

        Raises:
            MediaError: The file is not a media file.
            DataError: It has nothing that the model takes.
        """
        picture, sound = self._streams(part)
        if picture is None and sound is None:
            raise DataError(f"it has nothing that the model takes ({' and '.join(self.model.sees)})")
        found = {Condition.FULL: Shown(picture, sound)}
        if picture is not None and sound is not None:
            found |= {Condition.NO_SOUND: Shown(picture, None), Condition.NO_PICTURE: Shown(None, sound)}
        found[Condition.TEXT] = Shown()
        if other is not None:
            their_picture, their_sound = self._streams(other)
            if sound is not None and their_sound is not None:
                found[Condition.OTHER_SOUND] = Shown(picture, their_sound)
            if picture is not None and their_picture is not None:
                found[Condition.OTHER_PICTURE] = Shown(their_picture, sound)
        return found

    def _others(self, against: AskedClip | None) -> list[ClipPart]:
        """The windows of the clip that all are compared with.

        Raises:
            SettingError: It can't be used.
        """
        if against is None:
            return []
        with as_other(against):
            path = self._file(against)
            probe(path)
        return clip_parts([path], windows=self.options.windows)[0]

    def _streams(self, part: ClipPart) -> tuple[ClipPart | None, ClipPart | None]:
        """The part as picture and as sound, where it has them and the model takes them."""
        info = probe(part.path)
        picture = part if info.frames and "video" in self.model.sees else None
        sound = part if info.has_audio and "audio" in self.model.sees else None
        return picture, sound

    def _answer(self, question: str, shown: Mapping[Condition, Shown], part: ClipPart) -> PartAnswer:
        written = self._written(question, shown, self.options.max_new_tokens)
        answer = written[Condition.FULL]
        scores: dict[Condition, float | None] = dict.fromkeys(shown)
        if self._likelihood and answer:
            scores |= {each: values[0] for each, values in self._scored(question, (answer,), shown).items()}
        return PartAnswer({each: Reading(written[each], scores[each]) for each in shown}, part.span)

    def _feels(self, shown: Sequence[Mapping[Condition, Shown]]) -> Emotions:
        question = self._emotions.question
        common = [each for each in Condition if all(each in conditions for conditions in shown)]
        if not self._likelihood:
            replies = [self._written(question, conditions, NAME_TOKENS) for conditions in shown]
            named = {each: tuple(parse_label(reply[each], LABELS) or "" for reply in replies) for each in common}
            return Emotions(question, named=named)
        scored = [self._scored(question, self._emotions.flat, conditions) for conditions in shown]
        return Emotions(
            question, {each: tuple(self._emotions.pooled(values[each]) for values in scored) for each in common}
        )

    def _written(self, question: str, shown: Mapping[Condition, Shown], max_new_tokens: int) -> dict[Condition, str]:
        found = self._run("generation", question, (), shown, max_new_tokens)
        return {each: answer.reply or "" for each, answer in found.items()}

    def _scored(
        self, question: str, options: Sequence[str], shown: Mapping[Condition, Shown]
    ) -> dict[Condition, tuple[float, ...]]:
        found = self._run("likelihood", question, tuple(options), shown, 0)
        return {each: answer.logprobs or () for each, answer in found.items()}

    def _run(
        self,
        method: str,
        question: str,
        options: tuple[str, ...],
        shown: Mapping[Condition, Shown],
        max_new_tokens: int,
    ) -> dict[Condition, Answer]:
        """One request for each condition.

        Raises:
            MediaError: The clip can't be decoded.
            EndpointError: There is no answer.
        """
        found: dict[str, Answer] = {}
        requests = [
            ShownRequest(str(each), method, question, options, None, self.model.sees, max_new_tokens, what)
            for each, what in shown.items()
        ]
        failed = self.model.predict(requests, found.__setitem__)
        if failed:
            reason = next(iter(failed.values()))
            raise EndpointError(reason) if self.options.endpoint is not None else MediaError(reason)
        return {each: found[str(each)] for each in shown}

    def _file(self, clip: AskedClip) -> Path:
        """The clip's media file, also where it is named by its id in the store.

        Raises:
            UnknownClipError: The store does not hold it.
            MissingFileError: The file that the store names is gone.
        """
        if clip.path is not None:
            return clip.path
        assert self._store is not None, "ids are taken where there is a store"
        path = self._store.media_path(int(self._store.rows([clip.name])[0]))
        if not path.is_file():
            raise MissingFileError(f"The media file of {clip.name}, {path}, is gone; give the file itself.")
        return path
