"""Scores of answers to questions on a store's clips: the one path that training, constants and callers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avem.errors import DataError
from avem.train.data.features import ClipFeatures
from avem.train.packing.epoch import pack_specs
from avem.train.packing.specs import Media, ScoreSpec, SequenceBuilder

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel

TOKENS_PER_BATCH = 16384
"""Distinct tokens that go through the model together, unless a single answer has more."""


def score_specs(
    model: FamilyModel,
    builder: SequenceBuilder,
    specs: Sequence[ScoreSpec],
    media: Media,
    *,
    share_prefixes: bool = True,
) -> Tensor:
    """Summed log-probabilities of the answers of some specs in one pass, differentiable, `[n]`.

    Args:
        model: Of any family.
        builder: Made for this model.
        specs: What is scored.
        media: Holds at least the features that the specs name.
        share_prefixes: Compute common prefixes once.
    """
    sequences = [builder.sequence(spec, media) for spec in specs]
    return model.response_logprobs(sequences, share_prefixes)  # log pi(y|a,v,x), or t(y) without media


def score_answers(
    model: FamilyModel,
    store: FeatureStore,
    answers: Sequence[tuple[str, str, str]],
    share_prefixes: bool = True,
    *,
    subtitles: bool = False,
) -> Tensor:
    """Score answers to questions on a store's clips, with everything that the store holds of each clip.

    Args:
        model: Of any family; its streams are found in the store.
        store: The features.
        answers: Clip id, question and answer of each. Put those of a clip next to each other: they share its prefix.
        share_prefixes: Compute common prefixes once; the scores are the same.
        subtitles: Show what is said as text too; a clip without a subtitle is scored without the line.

    Returns:
        Summed log-probabilities of the answers in nats, `[n]`, in their order; differentiable.

    Raises:
        UnknownClipError: The store does not hold a clip.
        DataError: A clip lacks a stream, and the model takes whole clips only.
        SettingError: Subtitles are to be shown, and the store or the model has none.
        FingerprintError: The store lacks a stream that the model needs, or the model was trained on other features.
        PromptError: A text holds a special token, or a sequence does not fit the context; the message names the clip.

    Example:
        >>> from avem.cache import FeatureStore
        >>> from avem.train import load_model, score_answers
        >>> model, store = load_model("runs/avem-dpo"), FeatureStore.open("cache")  # doctest: +SKIP
        >>> score_answers(model, store, [("ravdess/01", "What does the person feel?", "Joy.")])  # doctest: +SKIP
    """
    builder = SequenceBuilder(model, store, subtitles=subtitles)
    for name, digest in builder.streams.digests().items():
        model.check_features(name, digest)
    specs = []
    rows = store.rows([clip for clip, _, _ in answers]).tolist()
    for row, (clip, question, answer) in zip(rows, answers, strict=True):
        if lacking := builder.lacking(row):
            raise DataError(f"The clip {clip} has no {lacking[0]} features, which the model needs; leave the clip out.")
        video, audio = (row if builder.available(side)[row] else None for side in ("video", "audio"))
        specs.append(ScoreSpec(question, answer, video, audio, builder.subtitle(row)))
        builder.check(specs[-1:], f"Clip {clip}")
    if not specs:
        return torch.zeros(0, device=model.device)
    scores: dict[ScoreSpec, Tensor] = {}
    features = ClipFeatures(builder.streams, specs, model.device, keep_mb=0)
    for batch in pack_specs(builder, list(dict.fromkeys(specs)), TOKENS_PER_BATCH):
        found = score_specs(model, builder, batch, features.media(batch), share_prefixes=share_prefixes)
        scores.update(zip(batch, found, strict=True))
    return torch.stack([scores[spec] for spec in specs])
