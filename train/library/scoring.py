"""Log-probabilities of responses under any Hugging Face model, every shared prefix computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avem.cache import ScoreCache
from avem.files import json_sha256
from avem.train.families.base import FamilyModel
from avem.train.library.models import HubModel, plain_model
from avem.train.library.sequences import EmbeddedMedia, TokenSequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.model.sequences import ScoredSequence

KEY_VERSION = 2
"""Increased when the same key would mean another score. Version 1 had logits in bfloat16 where the model was."""
TOKENS_PER_BATCH = 16384
"""Distinct tokens that go through the model together, unless a single sequence has more."""


def score(
    model: PreTrainedModel | FamilyModel,
    sequences: Sequence[TokenSequence | ScoredSequence],
    *,
    share_prefixes: bool = True,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Tensor:
    """Sum of the log-probabilities of each sequence's response tokens.

    Args:
        model: Any Hugging Face causal language model, also with LoRA adapters, a Qwen-Omni's thinker, or a model that
            `avem.train.load_model` read. Its layers attend through avem's function from then on, which is SDPA
            wherever no prefixes are shared. Call `eval()` first if it has dropout.
        sequences: `TokenSequence`s, or what `sequence` of avem's own models makes. Put those with a common prefix next
            to each other: they share it where they are in one batch.
        share_prefixes: Compute common prefixes once; otherwise each sequence by itself. The scores are the same.
        tokens_per_batch: Distinct tokens that go through the model together.

    Returns:
        float32 `[n]` (float64 where the model is float64), in their order; differentiable.

    Raises:
        PromptError: A sequence has no response, does not fit the context, or lacks the media that it names.
        SettingError: The model's attention can't share prefixes: windows shorter than a sequence, recurrent layers.

    Example:
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M")  # doctest: +SKIP
        >>> prompt, answers = [504, 3575, 282], [[1], [2, 3]]
        >>> score(model, [TokenSequence(prompt + answer, 3) for answer in answers])  # doctest: +SKIP
    """
    scorer = model if isinstance(model, FamilyModel) else HubModel(model)  # type: ignore[abstract]  # it reads no store and writes no files
    if not sequences:
        return torch.zeros(0, device=scorer.device)
    parts = []
    for batch in _batches(sequences, tokens_per_batch):
        made = [one.scored() if isinstance(one, TokenSequence) else one for one in batch]
        parts.append(scorer.response_logprobs(made, share_prefixes))
    return torch.cat(parts)


def cached_score(
    model: PreTrainedModel,
    sequences: Sequence[TokenSequence],
    folder: str | Path,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Tensor:
    """Scores without gradient, each computed once and kept: a reference's, which do not change while training.

    Args:
        model: As for `score`. LoRA adapters are switched off, as a reference has none.
        sequences: As for `score`.
        folder: Where scores are kept. They are found again under the model's weights, the number format, and the ids
            and media of each sequence.
        tokens_per_batch: As for `score`.

    Returns:
        float64 `[n]`.

    Raises:
        StoreError: The folder can't be read or written.
        AvemError: As for `score`.
    """
    base = plain_model(model)
    cache = ScoreCache(folder, {"version": KEY_VERSION, "model": weights_digest(base), "dtype": str(base.dtype)})
    keys = [sequence_key(one) for one in sequences]
    found = cache.get(keys)
    missing = list(dict.fromkeys(int(index) for index in np.flatnonzero(np.isnan(found))))
    if missing:
        with torch.no_grad(), _without_adapters(model):
            scores = score(model, [sequences[index] for index in missing], tokens_per_batch=tokens_per_batch)
        cache.put([keys[index] for index in missing], scores.double().tolist())
        found = cache.get(keys)
    return torch.from_numpy(found)


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights by name, without those of adapters."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if ".lora_" in name or not isinstance(value, Tensor):
            continue
        plain = name.replace(".base_layer.", ".")
        digest.update(f"{plain} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def sequence_key(sequence: TokenSequence) -> str:
    """Digest of all that a sequence's score depends on beside the model."""
    ids = torch.as_tensor(sequence.ids).tolist()
    media = [None if medium is None else _media_digest(medium) for medium in (sequence.visual, sequence.sound)]
    return json_sha256([ids, sequence.response_start, *media])


def _media_digest(medium: EmbeddedMedia) -> list[str | None]:
    places = None if medium.positions is None else hashlib.sha256(_bytes(medium.positions)).hexdigest()
    return [str(tuple(medium.tokens.shape)), hashlib.sha256(_bytes(medium.tokens)).hexdigest(), places]


def _bytes(value: Tensor) -> bytes:
    """A tensor's memory, whatever its format."""
    flat = value.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _without_adapters(model: PreTrainedModel) -> AbstractContextManager[None]:
    """A context in which peft's adapters add nothing."""
    if hasattr(model, "get_base_model"):
        disable: Any = model.disable_adapter
        context: AbstractContextManager[None] = disable()
        return context
    return nullcontext()


def _batches(
    sequences: Sequence[TokenSequence | ScoredSequence], most: int
) -> Iterator[list[TokenSequence | ScoredSequence]]:
    """Sequences in order, cut where a batch would have more tokens that differ from the sequence before."""
    batch: list[TokenSequence | ScoredSequence] = []
    size = 0
    for sequence in sequences:
        own = _length(sequence)
        new = own - (_common(batch[-1], sequence) if batch else 0)
        if batch and size + new > most:
            yield batch
            batch, size, new = [], 0, own
        batch.append(sequence)
        size += new
    if batch:
        yield batch


def _length(sequence: TokenSequence | ScoredSequence) -> int:
    if isinstance(sequence, TokenSequence):
        return sequence.length
    pieces = sequence.pieces or {}
    return len(sequence.ids) + sum(piece.size - 1 for side in pieces.values() for piece in side)


def _common(first: TokenSequence | ScoredSequence, second: TokenSequence | ScoredSequence) -> int:
    """Tokens at the start that two sequences share, of text alone: a cautious guess where there are media."""
    ids = [torch.as_tensor(one.ids).tolist() for one in (first, second)]
    shortest = min(map(len, ids))
    for index in range(shortest):
        if ids[0][index] != ids[1][index] or ids[0][index] < 0:
            return index
    return shortest
