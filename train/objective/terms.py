"""Puts an objective together from the parts that its settings name; a pure function of scores.

`avem.train.losses` and `avem.train.rivals` have the parts. With the paper's settings the result is `losses.avem_dpo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avem.train.losses import LogProbs, modality_dpo, naive_dpo, response_margin
from avem.train.rivals import (
    anchor_loss,
    implicit_value,
    ipo_loss,
    mod_dpo_value,
    nll_loss,
    pair_margins,
    robust_loss,
    simpo_value,
    smoothed_loss,
    split_margins,
    weighted_margin,
)
from avem.train.settings.config import PreferenceConfig

REJECTED = ("vr", "er", "irr")
"""Rejected answers, by the name they have in scores."""
RELEVANCE = ("irrelevant", "relevant")
"""Sides of a clip that MoD-DPO corrupts: the one that the question is not about, and the one that it is about."""


@dataclass(frozen=True, slots=True)
class RejectedInput:
    """Scores of the chosen answer with one side of the clip replaced."""

    policy: Tensor
    """[B]."""
    ref: Tensor
    """[B]."""
    there: Tensor
    """[B], 1 in rows that have this side and 0 in others."""


@dataclass(frozen=True, slots=True)
class RowScores:
    """All scores of B rows. Answers that a row leaves out are 0 on every side, and so is their weight."""

    logprobs: LogProbs
    weights: Mapping[str, Tensor]
    """Weight of each rejected answer, [B], by `vr`, `er`, `irr`."""
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    """How many tokens each answer has, [B], by `w`, `vr`, `er`, `irr`."""
    corrupted: Mapping[str, Tensor] = field(default_factory=dict)
    """Policy scores on corrupted inputs, [B], by `w_irrelevant`, `w_relevant`, `vr_irrelevant`, ..."""
    has_irrelevant: Tensor | None = None
    """[B], 1 in rows that have a side that the question is not about."""
    inputs: tuple[RejectedInput, ...] = ()
    """With `rejected_input=each`: each side replaced by itself. Otherwise `logprobs` has the only rejected input."""

    @property
    def betas(self) -> dict[str, Tensor]:
        """The weights as `avem.train.losses` names them."""
        return {f"beta_{name}": weight for name, weight in self.weights.items()}


@dataclass(frozen=True, slots=True)
class RowLosses:
    """An objective on B rows."""

    loss: Tensor
    """[B], differentiable."""
    margin: Tensor
    """[B]: the chosen answer's value less the weighted values of the rejected ones: Eq. 10 for the paper's settings."""


def row_losses(scores: RowScores, config: PreferenceConfig) -> RowLosses:
    """The objective of some settings.

    Args:
        scores: Of B rows, with what the settings need.
        config: Which parts, and their weights.
    """
    margin, pairs = _margins(scores, config)
    if config.rejected == "each":
        loss = torch.zeros_like(margin)
        for name, pair in pairs.items():
            loss = loss + scores.weights[name] * _margin_loss(pair, config)
    else:
        loss = _margin_loss(margin, config)
    if config.lambda_av > 0:
        loss = loss + config.lambda_av * _input_loss(scores, config.beta)
    logprobs = scores.logprobs
    if config.anchor > 0:
        loss = loss + config.anchor * anchor_loss(logprobs.policy_w, logprobs.ref_w, config.beta)
    if config.nll > 0:
        loss = loss + config.nll * nll_loss(logprobs.policy_w, scores.tokens["w"])
    return RowLosses(loss, margin.detach())


def _margins(scores: RowScores, config: PreferenceConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The margin of all rejected answers together, and of each by itself."""
    if config.loss != "simpo" and not config.decouples:  # the paper's own functions, to the last digit
        together = response_margin(scores.logprobs, config.beta, gamma_tpd=config.gamma_tpd, **scores.betas)
        return together, split_margins(scores.logprobs, config.beta, config.gamma_tpd)
    answers = [name for name in REJECTED if getattr(scores.logprobs, f"policy_{name}") is not None]
    chosen, rejected = _value("w", scores, config), {name: _value(name, scores, config) for name in answers}
    return weighted_margin(chosen, rejected, scores.weights), pair_margins(chosen, rejected)


def _value(answer: str, scores: RowScores, config: PreferenceConfig) -> Tensor:
    """What an answer is compared by, [B]."""
    logprobs = scores.logprobs
    policy, ref, text = _scores_of(answer, logprobs)
    if config.loss == "simpo":
        return simpo_value(policy, scores.tokens[answer].clamp(min=1), config.beta)
    if not config.decouples:
        return implicit_value(policy, ref, text, config.beta, config.gamma_tpd)
    irrelevant, relevant = (scores.corrupted.get(f"{answer}_{name}", torch.zeros_like(policy)) for name in RELEVANCE)
    there = torch.zeros_like(policy) if scores.has_irrelevant is None else scores.has_irrelevant
    invariance = config.invariance * there
    value = mod_dpo_value(policy, ref, irrelevant, relevant, config.beta, invariance, config.sensitivity)
    return value - config.gamma_tpd * text


def _scores_of(answer: str, logprobs: LogProbs) -> tuple[Tensor, Tensor, Tensor]:
    """Policy, reference and text-prior scores of an answer, each [B]."""
    policy, ref, text = (getattr(logprobs, f"{side}_{answer}") for side in ("policy", "ref", "text"))
    return policy, ref, text


def _margin_loss(margin: Tensor, config: PreferenceConfig) -> Tensor:
    if config.loss == "ipo":
        return ipo_loss(margin, config.beta)
    if config.loss == "robust":
        return robust_loss(margin, config.label_smoothing)
    return smoothed_loss(margin - config.target_margin if config.target_margin else margin, config.label_smoothing)


def _input_loss(scores: RowScores, beta: float) -> Tensor:
    """Eq. 4 or 5, or the same for each side by itself."""
    if not scores.inputs:
        return modality_dpo(scores.logprobs, beta)
    chosen = scores.logprobs
    terms = [naive_dpo(chosen.policy_w, one.policy, chosen.ref_w, one.ref, beta) * one.there for one in scores.inputs]
    return torch.stack(terms).sum(0)
