"""Sequences of token ids, with media that are embedded already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avem.errors import PromptError
from avem.train.model.media import Piece, Side
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID, ScoredSequence


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedMedia:
    """A picture, video or sound as the language model reads it: what the model's own towers and projectors gave.

    Sequences share it where they hold the same tensor.
    """

    tokens: Tensor
    """`[W, H]`, any float dtype."""
    positions: Tensor | None = None
    """Position ids int `[axes, W]`, counted from the first token's place, where they are not one a token (Qwen-VL and
    Qwen-Omni have 3 axes). Text after it goes on at the largest id, plus 1. None: one id a token."""

    def piece(self) -> Piece:
        """All of it as one piece of a prompt."""
        width = self.tokens.shape[0]
        if self.tokens.ndim != 2:
            raise PromptError(f"Embedded media have the shape {list(self.tokens.shape)}; [W, H] is needed.")
        if self.positions is None:
            return Piece(0, width)
        if self.positions.ndim != 2 or self.positions.shape[1] != width:
            shape = list(self.positions.shape)
            raise PromptError(
                f"The positions of {width} media tokens have the shape {shape}; [axes, {width}] is needed."
            )
        return Piece(0, width, tuple(map(tuple, self.positions.tolist())))


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """A prompt with the response whose log-probability is wanted.

    Example:
        >>> TokenSequence([5, 6, 7, 9], response_start=3).response_start
        3
    """

    ids: Sequence[int] | Tensor
    """Token ids, with -200 once in place of all tokens of `visual`, and -300 once in place of those of `sound`."""
    response_start: int
    """Index in `ids` of the first response token."""
    visual: EmbeddedMedia | None = None
    sound: EmbeddedMedia | None = None

    def scored(self) -> ScoredSequence:
        """The same for avem's scoring.

        Raises:
            PromptError: Placeholders and media do not fit each other, or there is no response.
        """
        media = {"video": self.visual, "audio": self.sound}
        pieces: dict[Side, Sequence[Piece]] = {
            "video": () if self.visual is None else (self.visual.piece(),),
            "audio": () if self.sound is None else (self.sound.piece(),),
        }
        video, audio = (None if medium is None else medium.tokens for medium in media.values())
        return ScoredSequence(torch.as_tensor(self.ids), video, audio, self.response_start, pieces)

    @property
    def length(self) -> int:
        """Positions that it fills."""
        sizes = [len(medium.tokens) - 1 for medium in (self.visual, self.sound) if medium is not None]
        return len(self.ids) + sum(sizes)


PLACEHOLDERS = {"visual": VIDEO_FRAME_ID, "sound": AUDIO_ID}
"""Ids that stand for media."""
