"""What is scored: an answer to a question on a clip's media, named by store rows until the features are needed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avem.errors import PromptError
from avem.guards.special_tokens import special_tokens
from avem.train.data.noise import noise_row
from avem.train.data.streams import ClipStreams
from avem.train.data.subtitles import shown_subtitles
from avem.train.model.media import SIDES, Medium, Piece, Side
from avem.train.model.prompts import EncodedPrompt
from avem.train.model.sequences import PLACEHOLDERS, ScoredSequence
from avem.train.settings.config import Streams

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """One score log pi(answer | audio, video, question); equal specs have equal scores."""

    question: str
    answer: str
    video: int | None = None
    """Row of the store that the video side comes from, with all its streams; None: no video in the prompt."""
    audio: int | None = None
    """Row of the store that the audio side comes from; None: no audio in the prompt."""
    subtitle: str | None = None
    """What is said, as the prompt has it as text; None: no subtitle in the prompt."""


@dataclass(frozen=True, slots=True)
class Media:
    """Features at hand, by store row; a row's medium is one object, so that sequences share its prefix."""

    video: Mapping[int, Medium]
    """The video side: each [T, N, C], or a family's stream rows."""
    audio: Mapping[int, Medium]
    """The audio side: each [S, C], or a family's stream rows."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    """A prompt with its answer, cut where media end, where the answer starts, and at its end."""

    encoded: EncodedPrompt
    ids: Tensor
    pieces: Mapping[Side, Sequence[Piece]]
    first: Side
    """The side whose media come first."""
    sizes: tuple[int, int, int, int]
    """Positions up to the end of the media of one side, then of all media, of the prompt, and of the answer."""
    heads: tuple[int, int]
    """Numbers of what is read up to the first two cuts, apart from features; equal numbers are equal."""


class SequenceBuilder:
    """Turns specs into sequences; every question and answer is tokenised once for each layout of media.

    Args:
        model: Lays out prompts and knows how many tokens the media become.
        store: Says what shapes the features have.
        streams: What prompts show of a clip.
        subtitles: Whether prompts show a clip's subtitle, where it has one.

    Raises:
        SettingError: Subtitles are to be shown, and no clip has one or the model's prompts have no room for them.
    """

    def __init__(
        self, model: FamilyModel, store: FeatureStore, streams: Streams = "both", *, subtitles: bool = False
    ) -> None:
        self._model = model
        self._subtitles = shown_subtitles(model, store) if subtitles else None
        shown: list[Side] = [side for side in SIDES if streams in ("both", side)]
        self.streams = ClipStreams.of(model, store, shown)
        """What the store holds for the model."""
        self._available = {side: self.streams.available(side) for side in SIDES}
        self._layouts: dict[tuple[Side, int], Hashable] = {}
        self._cache: dict[tuple[str, str, str | None, Hashable | None, Hashable | None], _Tokens] = {}
        self._heads: dict[Hashable, int] = {}

    @property
    def takes(self) -> tuple[bool, bool]:
        """Whether prompts hold video and audio: they are shown, the model takes them, the store has features."""
        return bool(self._available["video"].any()), bool(self._available["audio"].any())

    def lacking(self, row: int, asked: Iterable[Side] = ()) -> list[str]:
        """What a clip lacks for a question about some sides: streams of those, or of all that are shown.

        Args:
            row: Of the store.
            asked: Sides that the question is about; a model of whole clips needs the others too.
        """
        needed = dict.fromkeys((*asked, *(self.streams.sides if self._model.whole_clips else ())))
        sides = [side for side in needed if not self._available[side][row]]
        return [name for side in sides for name in self.streams.lacking(side, row) or [side]]

    def available(self, side: Side) -> npt.NDArray[np.bool_]:
        """Whether each clip has a side that prompts hold, bool `[clips]`."""
        return self._available[side]

    @property
    def shows_subtitles(self) -> bool:
        """Whether prompts show the subtitles of clips that have one."""
        return self._subtitles is not None

    def subtitle(self, row: int) -> str | None:
        """The subtitle that prompts show of a clip; None where it has none, or none are shown."""
        return None if self._subtitles is None else self._subtitles(row)

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
        encoded = self._tokens(spec).encoded
        return list(encoded.ids), encoded.response_start

    def pieces(self, spec: ScoreSpec) -> Iterator[tuple[Hashable, int]]:
        """The sequence as nodes of a prefix tree: a key that equal prefixes share, and the node's own positions."""
        tokens, both = self._tokens(spec), (spec.video, spec.audio)
        first = (tokens.first, spec.video if tokens.first == "video" else spec.audio, tokens.heads[0])
        keys = (first, (*both, tokens.heads[1]), (*both, spec.question, spec.subtitle), spec)
        return zip(enumerate(keys), tokens.sizes, strict=True)

    def sequence(self, spec: ScoreSpec, media: Media) -> ScoredSequence:
        """The sequence with its features.

        Args:
            spec: What to score.
            media: Holds at least the features that the spec names.
        """
        tokens = self._tokens(spec)
        video = None if spec.video is None else media.video[spec.video]
        audio = None if spec.audio is None else media.audio[spec.audio]
        encoded = tokens.encoded
        return ScoredSequence(tokens.ids, video, audio, encoded.response_start, tokens.pieces, encoded.uncounted)

    def _tokens(self, spec: ScoreSpec) -> _Tokens:
        video, audio = self._layout("video", spec.video), self._layout("audio", spec.audio)
        key = (spec.question, spec.answer, spec.subtitle, video, audio)
        if key not in self._cache:
            self._cache[key] = self._tokenise(*key)
        return self._cache[key]

    def _layout(self, side: Side, row: int | None) -> Hashable | None:
        """Layout of a side of a clip; features under noise are laid out as the clip's own."""
        if row is None:
            return None
        key = (side, max(row, noise_row(row)))
        if key not in self._layouts:
            self._layouts[key] = self._model.layout(side, self.streams.shapes(*key))
        return self._layouts[key]

    def _tokenise(
        self, question: str, answer: str, subtitle: str | None, video: Hashable | None, audio: Hashable | None
    ) -> _Tokens:
        shown = {} if subtitle is None else {"subtitle": subtitle}
        encoded = self._model.checked(self._model.encode(question, answer, video, audio, **shown))
        pieces: dict[Side, tuple[Piece, ...]] = {"video": encoded.video, "audio": encoded.audio}
        first, cuts = _media_cuts(encoded.ids)
        sizes = _sizes(encoded, (0, *cuts, encoded.response_start, len(encoded.ids)))
        heads = [self._head(encoded, cut) for cut in cuts]
        return _Tokens(encoded, torch.tensor(encoded.ids), pieces, first, sizes, (heads[0], heads[1]))

    def _head(self, encoded: EncodedPrompt, cut: int) -> int:
        """Number of a prompt's beginning: its ids and what its placeholders stand for."""
        ids = encoded.ids[:cut]
        video = encoded.video[: ids.count(PLACEHOLDERS["video"])]
        audio = encoded.audio[: ids.count(PLACEHOLDERS["audio"])]
        return self._heads.setdefault((tuple(ids), video, audio), len(self._heads))


def _media_cuts(ids: Sequence[int]) -> tuple[Side, tuple[int, int]]:
    """Which side's media come first, and the indices after them and after all media.

    The first cut lies before the other side's first piece, so that what comes before it depends on one side alone. Both
    cuts are the same where there is one side, and 0 where there is none.
    """
    index = {
        side: [number for number, token in enumerate(ids) if token == placeholder]
        for side, placeholder in PLACEHOLDERS.items()
    }
    there = sorted((side for side in SIDES if index[side]), key=lambda side: index[side][0])
    last = max((numbers[-1] + 1 for numbers in index.values() if numbers), default=0)
    if len(there) < 2:
        return (there[0] if there else "video"), (last, last)
    first, second = there
    return first, (max(number for number in index[first] if number < index[second][0]) + 1, last)


def _sizes(encoded: EncodedPrompt, bounds: Sequence[int]) -> tuple[int, int, int, int]:
    """Positions between neighbouring bounds."""
    pieces = {PLACEHOLDERS["video"]: iter(encoded.video), PLACEHOLDERS["audio"]: iter(encoded.audio)}
    positions = [next(pieces[token]).size if token in pieces else 1 for token in encoded.ids]
    sizes = [sum(positions[start:end]) for start, end in pairwise(bounds)]
    return sizes[0], sizes[1], sizes[2], sizes[3]


def plain_tokens(builder: SequenceBuilder, specs: Sequence[ScoreSpec]) -> int:
    """Positions that go through the model when nothing is shared (and nothing is padded)."""
    return sum(map(builder.length, specs))
