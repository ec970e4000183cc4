"""From atoms to input embeddings: text through the language model's table, media as the family makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from avem.errors import PromptError
from avem.train.model.media import SIDES, MediaEmbedding, Piece, Side
from avem.train.model.sequences import MediaBank

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.base import FamilyModel


@dataclass(frozen=True, slots=True)
class MediaTokens:
    """The media of some sequences as the language model reads them, by atom."""

    atoms: Sequence[tuple[Side, int, Piece]]
    """Side, number of the medium and piece of atom `-1 - index`."""
    media: Mapping[Side, Sequence[MediaEmbedding]]

    def size_of(self, atom: int) -> int:
        """Positions that an atom fills."""
        return 1 if atom >= 0 else self.atoms[-1 - atom][2].size

    def piece_of(self, atom: int) -> tuple[Side, Piece]:
        """Side and piece of a media atom."""
        side, _, piece = self.atoms[-1 - atom]
        return side, piece

    def tokens(self, atom: int) -> torch.Tensor:
        """Tokens `[size, H]` of a media atom."""
        side, medium, piece = self.atoms[-1 - atom]
        return self.media[side][medium].tokens.narrow(0, piece.start, piece.size)

    def extra(self, atom: int, name: str) -> torch.Tensor | None:
        """A media atom's part `[..., size, H]` of a medium's extra inputs; None where the medium has none."""
        side, medium, piece = self.atoms[-1 - atom]
        found = self.media[side][medium].extras.get(name)
        return None if found is None else found.narrow(-2, piece.start, piece.size)


def embed_media(model: FamilyModel, bank: MediaBank) -> MediaTokens:
    """Turn every distinct medium into tokens once.

    Raises:
        PromptError: A piece reaches beyond its medium's tokens: the sequence was made for other features.
    """
    media: dict[Side, Sequence[MediaEmbedding]] = {
        side: model.media_embeddings(side, [model.group(side, medium) for medium in bank.media[side]])
        if bank.media[side]
        else []
        for side in SIDES
    }
    for side, number, piece in bank.atoms:
        if piece.start + piece.size > len(media[side][number].tokens):
            raise PromptError(
                f"A sequence names token {piece.start + piece.size} of its {side} side, which becomes "
                f"{len(media[side][number].tokens)}; make the sequence again from these features."
            )
    return MediaTokens(bank.atoms, media)


def by_shape(features: Sequence[torch.Tensor], project: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Tokens `[W, H]` of each of some features, those of one shape in one call.

    Args:
        features: Each of any shape.
        project: From a stack `[n, *shape]` to tokens `[n, W, H]`.
    """
    tokens: dict[int, torch.Tensor] = {}
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number, one in enumerate(features):
        shapes.setdefault(tuple(one.shape), []).append(number)
    for numbers in shapes.values():
        tokens.update(zip(numbers, project(torch.stack([features[number] for number in numbers])), strict=True))
    return [tokens[number] for number in range(len(features))]


def embedding_table(language_model: PreTrainedModel) -> nn.Embedding:
    """The language model's input embeddings, weight `[V, H]`."""
    return cast("nn.Embedding", language_model.get_input_embeddings())


def embed_atoms(model: FamilyModel, atoms: Sequence[int], media: MediaTokens) -> torch.Tensor:
    """Input embeddings `[S, H]` of a row of atoms."""
    table = embedding_table(model.language_model)
    runs = [(is_text, list(run)) for is_text, run in groupby(atoms, key=lambda atom: atom >= 0)]
    text = torch.tensor([atom for atom in atoms if atom >= 0], dtype=torch.long, device=model.device)
    looked_up = table(text)  # [T, H], all at once: the gradient of each lookup is as large as the table
    words = iter(looked_up.split([len(run) for is_text, run in runs if is_text]))
    pieces: list[torch.Tensor] = []
    for is_text, run in runs:
        pieces += [next(words)] if is_text else [media.tokens(atom).to(table.weight.dtype) for atom in run]
    return torch.cat(pieces)  # text [run, H] and media [size, H], joined to [S, H]
