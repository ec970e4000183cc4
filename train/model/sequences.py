"""Token sequences with media in them, and the pieces ("atoms") they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from avem.errors import FingerprintError, PromptError

VIDEO_FRAME_ID = -200
"""Stands for the tokens of one video frame (AVERE's IMAGE_TOKEN_INDEX)."""
AUDIO_ID = -300
"""Stands for the audio tokens of one clip (AVERE's AUDIO_TOKEN_INDEX)."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """A prompt and the response whose log-probability is wanted.

    Two sequences share a medium where they hold the same tensor, or views of the same memory.
    """

    ids: torch.Tensor
    """int64 `[L]`: token ids with one -200 per video frame and one -300 for the clip's audio. Lists are converted."""
    video_features: torch.Tensor | None
    """`[T, N, C]`, any float dtype, or None where `ids` holds no -200."""
    audio_features: torch.Tensor | None
    """`[S, C]`, any float dtype, or None where `ids` holds no -300."""
    response_start: int
    """Index in `ids` of the first response token; `len(ids)` for a prompt without response."""

    def __post_init__(self) -> None:
        ids = torch.as_tensor(self.ids, dtype=torch.int64, device="cpu")
        object.__setattr__(self, "ids", ids)
        if ids.ndim != 1:
            raise PromptError(f"A sequence's ids have the shape {list(ids.shape)}; one dimension is needed.")
        if not 1 <= self.response_start <= len(ids):
            raise PromptError(f"response_start is {self.response_start}; it has to lie between 1 and {len(ids)}.")
        strange = ids[(ids < 0) & (ids != VIDEO_FRAME_ID) & (ids != AUDIO_ID)]
        if len(strange):
            raise PromptError(f"The sequence holds the id {int(strange[0])}; only -200 and -300 stand for media.")
        if bool((ids[self.response_start :] < 0).any()):
            raise PromptError("The response holds a media placeholder; media belong before response_start.")
        self._check_media("video", self.video_features, int((ids == VIDEO_FRAME_ID).sum()))
        self._check_media("audio", self.audio_features, int((ids == AUDIO_ID).sum()))

    def _check_media(self, kind: str, features: torch.Tensor | None, placeholders: int) -> None:
        dimensions = 3 if kind == "video" else 2
        if features is None:
            if placeholders:
                raise PromptError(f"The sequence has {placeholders} {kind} placeholders but no {kind} features.")
            return
        if features.ndim == dimensions + 1 and features.shape[0] == 1:
            features = features[0]
            object.__setattr__(self, f"{kind}_features", features)
        if features.ndim != dimensions:
            shape = "[T, N, C]" if kind == "video" else "[S, C]"
            raise PromptError(f"The {kind} features have the shape {list(features.shape)}; {shape} is needed.")
        wanted = len(features) if kind == "video" else 1
        if placeholders != wanted:
            raise PromptError(f"The sequence has {placeholders} {kind} placeholders, its features need {wanted}.")


@dataclass(slots=True)
class MediaBank:
    """The distinct media of a list of sequences; each is projected once.

    An atom is a text token (its id) or a run of media tokens that always stay together (a negative number): one video
    frame, or one clip's audio.
    """

    videos: list[torch.Tensor] = field(default_factory=list)
    audios: list[torch.Tensor] = field(default_factory=list)
    atoms: list[tuple[str, int, int]] = field(default_factory=list)
    """Kind, number of the medium and number of its placeholder, by `-1 - atom`."""
    _numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    _atom_numbers: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def atomise(self, sequence: ScoredSequence) -> list[int]:
        """The sequence as atoms, one for each of its ids."""
        atoms: list[int] = sequence.ids.tolist()
        video = self._number("video", sequence.video_features)
        audio = self._number("audio", sequence.audio_features)
        frame = 0
        for position, token in enumerate(atoms):
            if token == VIDEO_FRAME_ID:
                atoms[position] = self._atom("video", video, frame)
                frame += 1
            elif token == AUDIO_ID:
                atoms[position] = self._atom("audio", audio, 0)
        return atoms

    def _number(self, kind: str, features: torch.Tensor | None) -> int:
        if features is None:
            return -1
        key = (kind, features.data_ptr(), tuple(features.shape), features.stride(), features.dtype, features.device)
        if key not in self._numbers:
            media = self.videos if kind == "video" else self.audios
            self._numbers[key] = len(media)
            media.append(features)
        return self._numbers[key]

    def _atom(self, kind: str, medium: int, placeholder: int) -> int:
        key = (kind, medium, placeholder)
        if key not in self._atom_numbers:
            self.atoms.append(key)
            self._atom_numbers[key] = -len(self.atoms)
        return self._atom_numbers[key]


def check_width(kind: str, features: torch.Tensor, width: int) -> None:
    """Refuse features that no projector of this model can read.

    Raises:
        FingerprintError: The last dimension is not the width that the model's projector expects.
    """
    if features.shape[-1] != width:
        raise FingerprintError(
            f"The {kind} features have {features.shape[-1]} channels but the model's projector was made for {width}; "
            f"extract the clips with the encoder that the model was trained on."
        )


def split_tokens(tokens: torch.Tensor, placeholders: int) -> Sequence[torch.Tensor]:
    """Share out a medium's tokens `[W, H]` among its placeholders, in order and as evenly as can be."""
    pieces: Sequence[torch.Tensor] = torch.tensor_split(tokens, placeholders)
    return pieces
