"""Predictions of a model that reads features from a store: prompts, scored options, and how questions are batched."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from avem.cache.windows import clip_spans
from avem.chat_templates import DATE, frozen_date
from avem.errors import PromptError
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.predict.predictor import STREAMS, Answer, Keep, PredictionRequest, check_style, options_of
from avem.files import json_sha256
from avem.guards.secrets import mask
from avem.records import Question
from avem.train.data.streams import ClipStreams
from avem.train.data.subtitles import shown_subtitles
from avem.train.model.media import Medium

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel
    from avem.train.model.sequences import ScoredSequence

logger = logging.getLogger(__name__)

KEY_VERSION = 1
"""Raised when the same key would mean another number."""

POSITIONS_PER_CALL = 8192
"""Token positions of one call, roughly: as many clips as fit share a call, but at least one."""

TEXT_POSITIONS = 128
"""Positions of one clip's questions and sound, roughly."""
SOUNDS_PER_CALL = 8
"""Clips that share a call where the store has no pictures."""
TEXT_REQUESTS_PER_CALL = 64


class FeaturePrompt(NamedTuple):
    """What a model is shown: text and a clip's features."""

    text: str
    video: Medium | None
    """The video side: `[T, N, C]` (frames, tokens a frame, channels), or a family's stream rows."""
    audio: Medium | None
    """The audio side: `[S, C]` (steps, channels), or a family's stream rows."""
    subtitle: str | None = None
    """What is said, as text; None for no subtitle in the prompt."""

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of the model's `prompt` and `sequence`."""
        return {} if self.subtitle is None else {"subtitle": self.subtitle}


def without_end(sequence: Any, ends: set[int]) -> Any:
    """A scored sequence whose response may continue: the special tokens that close it are removed.

    A model that answers "Yes, because ..." gives the end of the sequence right after "Yes" almost no probability, and a
    different one for each option. With the end included, this would outweigh the question asked here: which option does
    the reply begin with?
    """
    length = len(sequence.ids)
    while length > sequence.response_start + 1 and int(sequence.ids[length - 1]) in ends:
        length -= 1
    return replace(sequence, ids=sequence.ids[:length])


class FeaturePredictor:
    """Answers questions with one model over one store.

    Args:
        model: A model of any family, or anything with its `tokenizer, sequence, prompt, response_logprobs, generate,
            fingerprint, check_features`.
        store: An `avem.cache.FeatureStore`.
        style: `letters` shows the options, as AVERE's evaluation does, and scores their letters (AVERE generates a
            reply); `cloze` shows the question alone and scores the options' texts.
        max_new_tokens: Longest reply in tokens.
        streams: What the model is shown of each clip: `video`, `audio` or both.
        subtitles: Whether it is shown what is said as text too, where a clip has a subtitle.

    Raises:
        SettingError: There is no such style, or subtitles are to be shown and the model or the store has none.
        FingerprintError: The model was trained on other features than the store's, or the store lacks a stream that it
            needs.
    """

    methods: tuple[str, ...] = ("likelihood", "generation", "text_only")

    def __init__(
        self,
        model: FamilyModel,
        store: FeatureStore,
        style: str,
        max_new_tokens: int,
        streams: Sequence[str] = STREAMS,
        *,
        subtitles: bool = False,
    ) -> None:
        check_style(style)
        self._subtitles = shown_subtitles(model, store) if subtitles else None
        if getattr(model, "saw_subtitles", None) and not subtitles:
            logger.warning("%s was trained with subtitles and is shown none; --subtitles shows them.", model.source)
        self.model, self.store, self.style, self.max_new_tokens = model, store, style, max_new_tokens
        self._streams = ClipStreams.of(model, store, [side for side in STREAMS if side in streams])
        self.available = {side: self._streams.available(side) for side in STREAMS}
        self._identity = {"version": KEY_VERSION, "model": model.fingerprint(), "style": style}
        if frozen_date(getattr(model.tokenizer, "chat_template", None)):  # else answers from other days would be used
            self._identity["date"] = DATE.date().isoformat()
        digests = self._streams.digests()
        self._features = {
            side: {name: digests[name] for name in sorted(self._streams.names(side))}
            for side in STREAMS
            if self.available[side].any()
        }
        for of_side in self._features.values():
            for name, digest in of_side.items():
                model.check_features(name, digest)
        self._contents = [
            content if span is None else f"{content}@{span[0]}-{span[1]}"
            for content, span in zip(store.clips["sha256"].to_pylist(), clip_spans(store.clips), strict=True)
        ]

    def request(self, question: Question, method: str, position: int | None) -> PredictionRequest:
        """Describe one prediction; the key covers model, features, clip, prompt, options and reply length."""
        depends: dict[str, Any] = {**self._identity, "way": method, "prompt": prompt_text(question, self.style)}
        if method == "generation":
            depends["max_new_tokens"] = self.max_new_tokens
        else:
            depends["options"] = options_of(question, self.style)
        if position is not None:
            features = {
                name: digest
                for side, of_side in self._features.items()
                if self.available[side][position]
                for name, digest in of_side.items()
            }
            depends |= {"clip": self._contents[position], "features": features}
            if (subtitle := self.subtitle(position)) is not None:
                depends["subtitle"] = subtitle
        return PredictionRequest(question, method, position, json_sha256(depends))

    def predict(self, requests: Sequence[PredictionRequest], keep: Keep) -> dict[str, str]:
        """Predict in batches; none fails."""
        for batch in self.batches(requests):
            keep(self.predict_batch(batch))
        return {}

    def clip(self, position: int) -> tuple[str, str]:
        """The clip's id and path in the store's manifest."""
        return self.store.clips["clip_id"][position].as_py(), self.store.clips["path"][position].as_py()

    def about(self) -> dict[str, dict[str, Any]]:
        """The model's source and fingerprint; the store's path, size and media roots."""
        source = str(getattr(self.model, "source", ""))
        model: dict[str, Any] = {"source": source, "fingerprint": self.model.fingerprint()}
        store = {"path": mask(self.store.location.url), "clips": len(self.store.clips), "roots": self.store.roots}
        if self._subtitles is not None:
            model["subtitles"] = True
        return {"model": model, "store": store}

    def subtitle(self, position: int | None) -> str | None:
        """The subtitle that prompts show of a clip; None where it has none, or none are shown."""
        return None if self._subtitles is None or position is None else self._subtitles(position)

    def has_media(self, position: int) -> bool:
        """Whether the store holds video or audio of a clip."""
        return any(bool(self.available[kind][position]) for kind in self.available)

    def batches(self, requests: Sequence[PredictionRequest]) -> Iterator[list[PredictionRequest]]:
        """Group requests by method and clip: those on one clip share a call, and several clips do where they fit."""
        for method in dict.fromkeys(request.method for request in requests):
            chosen = sorted(
                (request for request in requests if request.method == method),
                key=lambda request: -1 if request.position is None else request.position,
            )
            groups: dict[int, list[PredictionRequest]] = {}
            for number, request in enumerate(chosen):
                row = -1 - number // TEXT_REQUESTS_PER_CALL if request.position is None else request.position
                groups.setdefault(row, []).append(request)
            clips = list(groups.values())
            for numbers in self._calls([clip[0].position for clip in clips]):
                yield [request for number in numbers for request in clips[number]]

    @torch.inference_mode()
    def predict_batch(self, requests: Sequence[PredictionRequest]) -> dict[str, Answer]:
        """Predict with one call of the model.

        Args:
            requests: All with the same method.

        Returns:
            Key to answer.
        """
        media = {row: self.media(row) for row in dict.fromkeys(request.position for request in requests)}
        prompts = [
            FeaturePrompt(
                prompt_text(request.question, self.style), *media[request.position], self.subtitle(request.position)
            )
            for request in requests
        ]
        if requests and requests[0].method == "generation":
            sequences = [self._sequence(prompt, None) for prompt in prompts]
            replies = self.model.generate(sequences, max_new_tokens=self.max_new_tokens)
            found = [Answer(reply=reply) for reply in replies]
        else:
            values = self.option_logprobs(prompts, [options_of(request.question, self.style) for request in requests])
            found = [Answer(logprobs=tuple(value)) for value in values]
        return {request.key: answer for request, answer in zip(requests, found, strict=True)}

    @torch.inference_mode()
    def option_logprobs(self, prompts: Sequence[FeaturePrompt], options: Sequence[Sequence[str]]) -> list[list[float]]:
        """Log-probability of each option as the reply's beginning; one call, so that common prefixes are shared.

        Args:
            prompts: One a question; sequences share a medium where they hold the same tensor.
            options: The options of each.
        """
        ends = set(self.model.tokenizer.all_special_ids)
        sequences = [
            without_end(self._sequence(prompt, option), ends)
            for prompt, texts in zip(prompts, options, strict=True)
            for option in texts
        ]
        values = iter(self.model.response_logprobs(sequences).double().tolist())
        return [[next(values) for _ in texts] for texts in options]

    def _sequence(self, prompt: FeaturePrompt, option: str | None) -> ScoredSequence:
        """A prompt, with an option as its answer if there is one."""
        try:
            if option is None:
                return self.model.prompt(prompt.text, prompt.video, prompt.audio, **prompt.options)
            return self.model.sequence(prompt.text, option, prompt.video, prompt.audio, **prompt.options)
        except PromptError as error:
            if prompt.subtitle is None:
                raise
            raise PromptError(f"With the subtitle {prompt.subtitle[:40]!r}: {error}") from error

    def media(self, row: int | None) -> tuple[Medium | None, Medium | None]:
        """A clip's video and audio side, as `FeaturePrompt` holds them; None for one that the store does not have."""
        if row is None:
            return None, None
        video, audio = (self._streams.read(side, [row])[0] if self.available[side][row] else None for side in STREAMS)
        return video, audio

    def _calls(self, rows: Sequence[int | None]) -> Iterator[list[int]]:
        """Indices of the clips that go through one call, in order."""
        some = next((int(row) for row in np.flatnonzero(self.available["video"])), None)
        usual = POSITIONS_PER_CALL // SOUNDS_PER_CALL if some is None else self._positions(some)
        call: list[int] = []
        filled = 0
        for number, row in enumerate(rows):
            size = usual if row is None or not self.available["video"][row] else self._positions(row)
            if call and (filled + size > POSITIONS_PER_CALL or row is None):
                yield call
                call, filled = [], 0
            call.append(number)
            filled += size
        if call:
            yield call

    def _positions(self, row: int) -> int:
        """Positions that a clip takes in a call, roughly: its visual features, and room for the rest."""
        return TEXT_POSITIONS + self._streams.vectors("video", row)
