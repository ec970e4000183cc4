"""Shares of attention (E.8, Figs. 5, 15): how much of it falls on video and on audio tokens, task by task.

Measured where the answer begins: the last position of the prompt, the mean over layers and heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from avem.errors import DataError
from avem.evaluate.bootstrap import RESAMPLES, Floats, mean_intervals
from avem.evaluate.emorealm.questions import in_order, prompt_text
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.progress import stage
from avem.records import Question
from avem.train.model.sequences import PLACEHOLDERS, ScoredSequence
from avem.train.prefix.attention import prefix_tree_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.base import FamilyModel

ATTENTION_NAME = "avem_attention_shares"


@dataclass(slots=True)
class Recorder:
    """Sums up one sequence's attention from its last position."""

    total: Floats | None = None
    """float64 [S], summed over layers; the mean over heads of each."""
    layers: int = 0

    def add(self, weights: torch.Tensor) -> None:
        """Add one layer's weights, `[1, H, 1, S]`."""
        mean = weights[0, :, 0].double().mean(0).cpu().numpy()
        self.total = mean if self.total is None else self.total + mean
        self.layers += 1

    def shares(self) -> Floats:
        """float64 [S], summing to 1."""
        if self.total is None:
            raise DataError("The language model's layers do not attend through transformers' attention interface.")
        return self.total / self.layers


@dataclass(frozen=True, slots=True)
class AttentionItem:
    """One question's attention, as shares of all attention."""

    id: str
    clip: str
    task: str
    video: float
    audio: float
    video_tokens: int
    audio_tokens: int


@dataclass(frozen=True, slots=True)
class AttentionResult:
    """One model's attention."""

    name: str
    items: tuple[AttentionItem, ...]
    tasks: dict[str, dict[str, float]]
    """Task to `n`; `video` and `audio`, percent of the attention on media; `media`, percent of all attention; each with
    `_low` and `_high` (95 %, bootstrap over clips); `audio_tokens`, the percent of media tokens that are audio."""
    left_out: dict[str, str] = field(default_factory=dict)


def attention_probe(
    predictor: FeaturePredictor,
    questions: Sequence[Question],
    rows: Mapping[str, int],
    *,
    name: str = "model",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AttentionResult:
    """Measure the attention on video and audio tokens while a model is about to answer.

    Args:
        predictor: A model over a store.
        questions: The questions.
        rows: Question id to its clip's row.
        name: Short name of the model.
        resamples: Bootstrap resamples over clips.
        seed: Seed of the bootstrap.

    Raises:
        DataError: No question's clip has both streams, or the language model's attention can't be measured.
    """
    items, left_out = [], {}
    with measuring(predictor.model.language_model), stage(f"attention {name}", len(questions), "questions") as bar:
        for question in questions:
            row = rows.get(question.id)
            if row is None or not (predictor.available["video"][row] and predictor.available["audio"][row]):
                left_out[question.id] = "its clip has no video or no audio in the store"
            else:
                items.append(_measure(predictor, question, row))
            bar.advance()
    if not items:
        raise DataError("No question has a clip with video and audio in the store; the probe needs at least one.")
    return AttentionResult(name, tuple(items), attention_numbers(items, resamples, seed), left_out)


def attention_numbers(
    items: Sequence[AttentionItem], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The numbers of `AttentionResult.tasks`, and the same over `all` questions."""
    groups = {task: [item for item in items if item.task == task] for task in in_order(item.task for item in items)}
    found = {}
    for task, members in {**groups, "all": list(items)}.items():
        media = np.array([item.video + item.audio for item in members])
        shares = np.array([[item.video, item.audio] for item in members]) / media[:, None]
        values = 100 * np.column_stack([shares, media])
        numbers: dict[str, float] = {"n": len(members)}
        numbers |= dict(zip(("video", "audio", "media"), map(float, values.mean(axis=0)), strict=True))
        if resamples:
            edges = mean_intervals(values, [item.clip for item in members], resamples, seed)
            for column, (low, high) in zip(("video", "audio", "media"), edges, strict=True):
                numbers |= {f"{column}_low": low, f"{column}_high": high}
        tokens = sum(item.video_tokens + item.audio_tokens for item in members)
        numbers["audio_tokens"] = 100 * sum(item.audio_tokens for item in members) / tokens
        found[task] = numbers
    return found


@torch.inference_mode()
def _measure(predictor: FeaturePredictor, question: Question, row: int) -> AttentionItem:
    model, recorder = predictor.model, Recorder()
    sequence = model.prompt(prompt_text(question, predictor.style), *predictor.media(row))
    model.next_logits(sequence, attention_recorder=recorder)
    shares = recorder.shares()
    kinds = token_kinds(model, sequence)
    on = {kind: float(shares[kinds == kind].sum()) for kind in ("video", "audio")}
    counts = {kind: int((kinds == kind).sum()) for kind in ("video", "audio")}
    return AttentionItem(
        question.id, question.video, question.task, on["video"], on["audio"], counts["video"], counts["audio"]
    )


def token_kinds(model: FamilyModel, sequence: ScoredSequence) -> npt.NDArray[np.str_]:
    """What each position of a sequence is: `video`, `audio` or `text`; an array of words, [S]."""
    sides = {placeholder: side for side, placeholder in PLACEHOLDERS.items()}
    pieces = {
        placeholder: iter(() if sequence.medium(side) is None else model.pieces(sequence, side))
        for placeholder, side in sides.items()
    }
    kinds: list[str] = []
    for token in sequence.ids.tolist():
        kinds += [sides[token]] * next(pieces[token]).size if token in sides else ["text"]
    return np.array(kinds)


@contextmanager
def measuring(language_model: PreTrainedModel) -> Iterator[None]:
    """While the block runs, a Hugging Face model hands its attention to the `attention_recorder` of the call."""
    AttentionInterface.register(ATTENTION_NAME, _recording_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    before = language_model.config._attn_implementation  # transformers has no public reader for it
    language_model.set_attn_implementation(ATTENTION_NAME)
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)


def _recording_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    attention_recorder: Recorder | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The language model's usual attention, the last position's weights computed in addition."""
    if attention_recorder is not None:
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        last = (query[:, :, -1:].float() @ keys.float().transpose(2, 3)) * scale
        attention_recorder.add(_weights(last, softcap, attention_mask))
    return prefix_tree_attention(module, query, key, value, attention_mask, scaling=scaling, softcap=softcap, **others)


def _weights(products: torch.Tensor, softcap: float | None, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax of capped and masked products; of a mask the rows that belong to the last queries count."""
    if softcap is not None:
        products = softcap * torch.tanh(products / softcap)
    if mask is not None:
        rows = mask[:, :, -products.shape[2] :]
        products = products.masked_fill(~rows, -torch.inf) if rows.dtype == torch.bool else products + rows
    return products.softmax(-1)
