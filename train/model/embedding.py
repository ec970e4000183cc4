"""From atoms to input embeddings: text through the language model's table, media through the projectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from avem.train.model.sequences import MediaBank, split_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.model.audiovisual import AudiovisualLM


@dataclass(frozen=True, slots=True)
class MediaTokens:
    """Projected media tokens by atom."""

    pieces: list[torch.Tensor]
    """`[size, H]` for atom `-1 - index`."""

    def size_of(self, atom: int) -> int:
        """Positions that an atom fills."""
        return 1 if atom >= 0 else len(self.pieces[-1 - atom])


def project_media(model: AudiovisualLM, bank: MediaBank) -> MediaTokens:
    """Project every distinct medium once, those of one shape together."""
    videos = _project(bank.videos, model.project_video)
    audios = _project(bank.audios, model.project_audio)
    split = [split_tokens(tokens, len(features)) for tokens, features in zip(videos, bank.videos, strict=True)]
    return MediaTokens(
        [split[medium][frame] if kind == "video" else audios[medium] for kind, medium, frame in bank.atoms]
    )


def _project(media: list[torch.Tensor], project: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Projected tokens `[W, H]` of each medium, in order."""
    tokens: dict[int, torch.Tensor] = {}
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, features in enumerate(media):
        by_shape.setdefault(tuple(features.shape), []).append(number)
    for numbers in by_shape.values():  # [n, T, N, C] or [n, S, C] -> [n, W, H]
        tokens.update(zip(numbers, project(torch.stack([media[number] for number in numbers])), strict=True))
    return [tokens[number] for number in range(len(media))]


def embedding_table(language_model: PreTrainedModel) -> nn.Embedding:
    """The language model's input embeddings, weight `[V, H]`."""
    return cast("nn.Embedding", language_model.get_input_embeddings())


def embed_atoms(model: AudiovisualLM, atoms: Sequence[int], media: MediaTokens) -> torch.Tensor:
    """Input embeddings `[S, H]` of a row of atoms."""
    table = embedding_table(model.language_model)
    pieces = []
    for is_text, run in groupby(atoms, key=lambda atom: atom >= 0):
        if is_text:
            pieces.append(table(torch.tensor(list(run), device=model.device)))
        else:
            pieces += [media.pieces[-1 - atom].to(table.weight.dtype) for atom in run]
    return torch.cat(pieces)  # text [run, H] and media [size, H], joined to [S, H]
