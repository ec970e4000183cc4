"""What is scored: an answer to a question on a clip's media, named by store rows until the features are needed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avem.errors import PromptError
from avem.guards.special_tokens import special_tokens
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID, ScoredSequence
from avem.train.settings.config import Streams

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.cache.records import Kind
    from avem.train.model.audiovisual import AudiovisualLM


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """One score log pi(answer | audio, video, question); equal specs have equal scores."""

    question: str
    answer: str
    video: int | None = None
    """Row of the store that the video features come from; None: no video in the prompt."""
    audio: int | None = None
    """Row of the store that the audio features come from; None: no audio in the prompt."""


@dataclass(frozen=True, slots=True)
class Media:
    """Features at hand, by store row; a row's tensor is one object, so that sequences share its prefix."""

    video: Mapping[int, Tensor]
    """Each [T, N, C]."""
    audio: Mapping[int, Tensor]
    """Each [S, C]."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    ids: Tensor
    response_start: int
    sizes: tuple[int, int, int, int]
    """Positions of the part up to the end of the video, then of the audio, of the prompt, and of the answer."""


class SequenceBuilder:
    """Turns specs into sequences; every (question, answer) is tokenised once.

    Args:
        model: Tokenises prompts and knows how many tokens the media become.
        store: Says what shape the features have.
        streams: What prompts show of a clip.
    """

    def __init__(self, model: AudiovisualLM, store: FeatureStore, streams: Streams = "both") -> None:
        self._model = model
        self._video: Tensor | None = None
        self._audio: Tensor | None = None
        self._video_tokens = self._audio_tokens = 0
        video_shown, audio_shown = streams != "audio", streams != "video"
        if video_shown and model.video_projector is not None and (video := _example(store, "video")) is not None:
            self._video, self._video_tokens = video, model.video_projector.token_count(*video.shape[:2])
        if audio_shown and model.audio_projector is not None and (audio := _example(store, "audio")) is not None:
            self._audio, self._audio_tokens = audio, model.audio_projector.token_count(audio.shape[0])
        self._cache: dict[tuple[str, str, bool, bool], _Tokens] = {}

    @property
    def takes(self) -> tuple[bool, bool]:
        """Whether prompts hold video and audio: they are shown, the model has a projector, the store has features."""
        return self._video is not None, self._audio is not None

    @property
    def special(self) -> frozenset[str]:
        """Special tokens of the model's tokenizer, which no question or answer may hold."""
        return special_tokens(self._model.tokenizer)

    def check(self, specs: Iterable[ScoreSpec], where: str) -> None:
        """Tokenise specs.

        Raises:
            PromptError: One is longer than the model's context or holds a placeholder; the message starts with `where`.
        """
        for spec in specs:
            try:
                self._tokens(spec)
            except PromptError as error:
                raise PromptError(f"{where}: {error}") from error

    def length(self, spec: ScoreSpec) -> int:
        """Language-model positions of the complete sequence."""
        return sum(self._tokens(spec).sizes)

    def answer_tokens(self, spec: ScoreSpec) -> int:
        """Response tokens that are scored."""
        return self._tokens(spec).sizes[-1]

    def ids(self, spec: ScoreSpec) -> tuple[list[int], int]:
        """Token ids with placeholders for media, and the index where the answer starts."""
        tokens = self._tokens(spec)
        return tokens.ids.tolist(), tokens.response_start

    def pieces(self, spec: ScoreSpec) -> Iterator[tuple[Hashable, int]]:
        """The sequence as nodes of a prefix tree: a key that equal prefixes share, and the node's own positions."""
        keys = (spec.video, (spec.video, spec.audio), (spec.video, spec.audio, spec.question), spec)
        return zip(enumerate(keys), self._tokens(spec).sizes, strict=True)

    def sequence(self, spec: ScoreSpec, media: Media) -> ScoredSequence:
        """The sequence with its features.

        Args:
            spec: What to score.
            media: Holds at least the features that the spec names.
        """
        tokens = self._tokens(spec)
        video = None if spec.video is None else media.video[spec.video]
        audio = None if spec.audio is None else media.audio[spec.audio]
        return ScoredSequence(tokens.ids, video, audio, tokens.response_start)

    def _tokens(self, spec: ScoreSpec) -> _Tokens:
        key = (spec.question, spec.answer, spec.video is not None, spec.audio is not None)
        if key not in self._cache:
            self._cache[key] = self._tokenise(*key)
        return self._cache[key]

    def _tokenise(self, question: str, answer: str, has_video: bool, has_audio: bool) -> _Tokens:
        video, audio = self._video if has_video else None, self._audio if has_audio else None
        made = self._model.sequence(question, answer, video, audio)
        positions = torch.ones(len(made.ids), dtype=torch.int64)
        video_end = _fill(positions, made.ids == VIDEO_FRAME_ID, self._video_tokens)
        audio_end = _fill(positions, made.ids == AUDIO_ID, self._audio_tokens)
        video_end, audio_end = sorted((video_end, audio_end))
        bounds = (0, video_end, audio_end, made.response_start, len(made.ids))
        sizes = [int(positions[start:end].sum()) for start, end in pairwise(bounds)]
        return _Tokens(made.ids, made.response_start, (sizes[0], sizes[1], sizes[2], sizes[3]))


def _example(store: FeatureStore, kind: Kind) -> Tensor | None:
    """Features of some clip, or None where the store has none of this kind."""
    rows = np.flatnonzero(store.available(kind)) if kind in store.kinds else ()
    return store.features(kind, rows[:1])[0] if len(rows) else None


def _fill(positions: Tensor, placeholders: Tensor, tokens: int) -> int:
    """Enter how many positions the placeholders stand for; return the index after the last of them, 0 without any."""
    indices = placeholders.nonzero().flatten()
    if not len(indices):
        return 0
    positions[indices] = 0
    positions[indices[-1]] = tokens
    return int(indices[-1]) + 1


def plain_tokens(builder: SequenceBuilder, specs: Sequence[ScoreSpec]) -> int:
    """Positions that go through the model when nothing is shared (and nothing is padded)."""
    return sum(map(builder.length, specs))
