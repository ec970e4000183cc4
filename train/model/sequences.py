"""Token sequences with media in them, and the pieces ("atoms") they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from avem.errors import FingerprintError, PromptError
from avem.train.model.media import SIDES, Medium, Piece, Side, medium_key

VIDEO_FRAME_ID = -200
"""Stands for a piece of the video side: the tokens of one frame (AVERE's IMAGE_TOKEN_INDEX), or what a family says."""
AUDIO_ID = -300
"""Stands for a piece of the audio side: a clip's audio tokens (AVERE's AUDIO_TOKEN_INDEX), or what a family says."""
PLACEHOLDERS: dict[Side, int] = {"video": VIDEO_FRAME_ID, "audio": AUDIO_ID}


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """A prompt and the response whose log-probability is wanted.

    Two sequences share a medium where they hold the same tensor, or views of the same memory.
    """

    ids: torch.Tensor
    """int64 `[L]`: token ids with -200 for each piece of the video side and -300 for each of the audio side. Lists are
    converted. Without `pieces` a piece is one video frame, or all of a clip's audio."""
    video_features: Medium | None
    """`[T, N, C]`, any float dtype, or a family's stream rows by name; None where `ids` holds no -200."""
    audio_features: Medium | None
    """`[S, C]`, any float dtype, or a family's stream rows by name; None where `ids` holds no -300."""
    response_start: int
    """Index in `ids` of the first response token; `len(ids)` for a prompt without response."""
    pieces: Mapping[Side, Sequence[Piece]] | None = None
    """What each side's placeholders stand for, in order; None where that follows from the features' shapes."""
    uncounted: frozenset[int] = frozenset()
    """Indices of response tokens that are read and not scored; a family says which."""

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
        for side in SIDES:
            self._check_side(side, int((ids == PLACEHOLDERS[side]).sum()))

    def medium(self, side: Side) -> Medium | None:
        """Features of a side."""
        return self.video_features if side == "video" else self.audio_features

    def _check_side(self, side: Side, placeholders: int) -> None:
        features = self.medium(side)
        if features is None:
            if placeholders:
                raise PromptError(f"The sequence has {placeholders} {side} placeholders but no {side} features.")
            return
        if self.pieces is not None:
            wanted = len(self.pieces[side])
        elif isinstance(features, torch.Tensor):
            wanted = self._check_tensor(side, features)
        else:
            return  # whoever scores it says what its placeholders stand for
        if placeholders != wanted:
            raise PromptError(f"The sequence has {placeholders} {side} placeholders, its features need {wanted}.")

    def _check_tensor(self, side: Side, features: torch.Tensor) -> int:
        """Drop a batch axis of one; return how many placeholders the features need."""
        dimensions = 3 if side == "video" else 2
        if features.ndim == dimensions + 1 and features.shape[0] == 1:
            features = features[0]
            object.__setattr__(self, f"{side}_features", features)
        if features.ndim != dimensions:
            shape = "[T, N, C]" if side == "video" else "[S, C]"
            raise PromptError(f"The {side} features have the shape {list(features.shape)}; {shape} is needed.")
        return len(features) if side == "video" else 1


PiecesOf: TypeAlias = Callable[[ScoredSequence, Side], Sequence[Piece]]
"""What a sequence's placeholders of a side stand for, in order: `FamilyModel.pieces`."""


@dataclass(slots=True)
class MediaBank:
    """The distinct media of a list of sequences; each becomes tokens once.

    An atom is a text token (its id) or a piece of media (a negative number). Equal numbers are the same piece of the
    same medium.
    """

    media: dict[Side, list[Medium]] = field(default_factory=lambda: {side: [] for side in SIDES})
    """Distinct media of each side."""
    atoms: list[tuple[Side, int, Piece]] = field(default_factory=list)
    """Side, number of the medium and piece, by `-1 - atom`."""
    _numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    _atom_numbers: dict[tuple[Side, int, Piece], int] = field(default_factory=dict)

    def atomise(self, sequence: ScoredSequence, pieces_of: PiecesOf) -> list[int]:
        """The sequence as atoms, one for each of its ids."""
        ids: list[int] = sequence.ids.tolist()
        atoms = list(ids)
        for side in SIDES:
            medium = sequence.medium(side)
            if medium is None:
                continue
            number, placeholder = self._number(side, medium), PLACEHOLDERS[side]
            pieces = iter(pieces_of(sequence, side))
            for index, token in enumerate(ids):  # not of the atoms: their numbers run past -200 and -300
                if token == placeholder:
                    atoms[index] = self._atom(side, number, next(pieces))
        return atoms

    def _number(self, side: Side, medium: Medium) -> int:
        key = (side, medium_key(medium))
        if key not in self._numbers:
            self._numbers[key] = len(self.media[side])
            self.media[side].append(medium)
        return self._numbers[key]

    def _atom(self, side: Side, medium: int, piece: Piece) -> int:
        key = (side, medium, piece)
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
