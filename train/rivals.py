"""Objectives beyond the paper's, as pure functions of summed log-probabilities; `docs/objectives.md` lists them.

An objective is put together from four kinds of parts: the value of an answer (what the chosen and the rejected answers
are compared by), a margin of values, a loss of that margin, and terms that are added. The paper's own parts are in
`avem.train.losses`, and so is what r(y) and t(y) mean. Every function takes and gives tensors [B], one number a row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from avem.train.losses import LogProbs, Weight, dpo_margin, modality_dpo, naive_dpo, text_prior_penalty

__all__ = [
    "anchor_loss",
    "implicit_value",
    "ipo_loss",
    "mod_dpo_value",
    "nll_loss",
    "omni_dpo",
    "pair_margins",
    "robust_loss",
    "simpo_value",
    "smoothed_loss",
    "split_dpo",
    "split_margins",
    "weighted_margin",
]

# ---- values of an answer -------------------------------------------------------------------------------------------


def implicit_value(policy: Tensor, ref: Tensor, text: Tensor, beta: float = 0.1, gamma_tpd: float = 0.0) -> Tensor:
    """DPO's: beta r(y), less gamma_tpd t(y) where the text prior is to be taken off (Eq. 8).

    Args:
        policy: Policy scores of the answer.
        ref: Reference scores.
        text: The text prior's.
        beta: Inverse temperature of the implicit reward.
        gamma_tpd: Strength of text-prior debiasing.
    """
    return beta * (policy - ref) - gamma_tpd * text


def simpo_value(policy: Tensor, tokens: Tensor, beta: float = 2.0) -> Tensor:
    """SimPO's (Meng et al., 2024): beta log pi(y) / |y|, without a reference.

    Args:
        policy: Policy scores of the answer.
        tokens: How many tokens it has, its end included.
        beta: Scale.
    """
    return beta * policy / tokens


def mod_dpo_value(
    policy: Tensor,
    ref: Tensor,
    irrelevant: Tensor,
    relevant: Tensor,
    beta: float = 0.1,
    beta_inv: Weight = 0.1,
    beta_sens: Weight = 0.05,
) -> Tensor:
    """MoD-DPO's (Chaubey et al., 2026): the reward of which the policy is the optimum of that paper's objective.

    The objective is E[reward] - beta KL(pi || pi_ref) - beta_inv KL(pi || pi_irr) + beta_sens KL(pi || pi_rel), where
    pi_irr is the policy on an input whose irrelevant side is corrupted, and pi_rel on one whose relevant side is. With
    these two held fixed, its optimum has pi^(beta + beta_inv - beta_sens) proportional to pi_ref^beta pi_irr^beta_inv
    pi_rel^-beta_sens exp(reward). Solved for the reward, and up to what all answers share, that is

        (beta + beta_inv - beta_sens) log pi - beta log pi_ref - beta_inv log pi_irr + beta_sens log pi_rel.

    Args:
        policy: Policy scores of the answer.
        ref: Reference scores.
        irrelevant: Policy scores with the irrelevant side corrupted; no gradient flows to them.
        relevant: Policy scores with the relevant side corrupted; no gradient flows to them.
        beta: Weight of the reference.
        beta_inv: Weight of invariance; 0 in rows without an irrelevant side.
        beta_sens: Weight of sensitivity; below beta + beta_inv, or there is no optimum.
    """
    invariance = beta_inv * (policy - irrelevant.detach())
    sensitivity = beta_sens * (policy - relevant.detach())
    return beta * (policy - ref) + invariance - sensitivity


# ---- margins -------------------------------------------------------------------------------------------------------


def weighted_margin(chosen: Tensor, rejected: Mapping[str, Tensor], weights: Mapping[str, Weight]) -> Tensor:
    """The chosen answer's value less the weighted values of all rejected ones, as in Eq. 6."""
    margin = chosen
    for name, value in rejected.items():
        margin = margin - weights[name] * value
    return margin


def pair_margins(chosen: Tensor, rejected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The chosen answer's value less that of each rejected one."""
    return {name: chosen - value for name, value in rejected.items()}


def split_margins(logprobs: LogProbs, beta: float = 0.1, gamma_tpd: float = 0.2) -> dict[str, Tensor]:
    """Eq. 8's margin of each rejected answer by itself: beta [r(w) - r(i)] - gamma_tpd [t(w) - t(i)].

    Args:
        logprobs: Scores, each [B].
        beta: Inverse temperature of the implicit reward.
        gamma_tpd: Strength of text-prior debiasing.

    Returns:
        By answer (`vr`, `er`, and `irr` where it has scores), each [B].
    """
    margins = {}
    for name in ("vr", "er", "irr"):
        policy, ref, text = (getattr(logprobs, f"{side}_{name}") for side in ("policy", "ref", "text"))
        if policy is not None:
            margin = dpo_margin(logprobs.policy_w, policy, logprobs.ref_w, ref, beta)
            margins[name] = margin - text_prior_penalty(logprobs.text_w, text, gamma_tpd)  # Eq. 8 inside the sigmoid
    return margins


# ---- losses of a margin --------------------------------------------------------------------------------------------


def smoothed_loss(margin: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """DPO's loss when a share of the preferences is the wrong way round (conservative DPO; Mitchell, 2023).

    Args:
        margin: What the sigmoid sees.
        label_smoothing: Share e of wrong preferences, below 0.5: (1 - e) (-log sigmoid(m)) + e (-log sigmoid(-m)).
            Its minimum is where sigmoid(m) = 1 - e, so that no row is pushed without end. 0 is DPO.
    """
    if label_smoothing == 0:
        return -logsigmoid(margin)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def robust_loss(margin: Tensor, label_smoothing: float) -> Tensor:
    """Robust DPO (Chowdhury et al., 2024): its mean over noisy preferences is DPO's loss on the clean ones.

    Args:
        margin: What the sigmoid sees.
        label_smoothing: Share e of wrong preferences, below 0.5:
            [(1 - e) (-log sigmoid(m)) - e (-log sigmoid(-m))] / (1 - 2 e).
    """
    kept, wrong = 1 - label_smoothing, label_smoothing
    return (wrong * logsigmoid(-margin) - kept * logsigmoid(margin)) / (1 - 2 * label_smoothing)


def ipo_loss(margin: Tensor, beta: float = 0.1) -> Tensor:
    """IPO (Azar et al., 2023): the square of the log-ratio's distance from 1 / (2 beta).

    Args:
        margin: beta times the difference of log-ratios, sums over tokens as in the paper (TRL takes means).
        beta: IPO's tau.
    """
    return (margin / beta - 1 / (2 * beta)) ** 2


# ---- terms that are added ------------------------------------------------------------------------------------------


def anchor_loss(policy_w: Tensor, ref_w: Tensor, beta: float = 0.1) -> Tensor:
    """The anchor of mDPO (Wang et al., 2024), with the threshold 0 of its code: -log sigmoid(beta r(w)).

    Args:
        policy_w: Policy scores of the chosen answer.
        ref_w: Reference scores.
        beta: Inverse temperature of the implicit reward.

    Returns:
        [B], large where the chosen answer's reward has fallen below 0.
    """
    return -logsigmoid(beta * (policy_w - ref_w))


def nll_loss(policy_w: Tensor, tokens_w: Tensor) -> Tensor:
    """The chosen answer's loss in supervised training, a mean over its tokens (Pang et al., 2024; TRL's `rpo_alpha`).

    Args:
        policy_w: Policy scores of the chosen answer.
        tokens_w: How many tokens it has.
    """
    return -policy_w / tokens_w


# ---- complete objectives -------------------------------------------------------------------------------------------


def split_dpo(
    logprobs: LogProbs,
    beta: float = 0.1,
    beta_vr: Weight = 0.5,
    beta_er: Weight = 0.5,
    gamma_tpd: float = 0.2,
    lambda_av: float = 1.0,
    beta_irr: Weight = 0.0,
) -> Tensor:
    """Eq. 9 with one sigmoid for each rejected answer: sum_i beta_i Eq. 8 (w, i) + lambda_av Eq. 5. Beyond the paper.

    In Eq. 10 one sigmoid sees the weighted sum, so that one answer that is far below the chosen one satisfies it for
    all. Here each answer has to be below.

    Args:
        logprobs: Scores, each [B].
        beta: Inverse temperature of the implicit reward.
        beta_vr: Weight of the loss against the video-relevant rejected answer.
        beta_er: Weight of the loss against the emotion-relevant one.
        gamma_tpd: Strength of text-prior debiasing.
        lambda_av: Weight of the modality term.
        beta_irr: Weight of the loss against the irrelevant answer (Table 18).

    Returns:
        [B], one loss a row.
    """
    weights: Mapping[str, Weight] = {"vr": beta_vr, "er": beta_er, "irr": beta_irr}
    loss = torch.zeros_like(logprobs.policy_w)
    for name, margin in split_margins(logprobs, beta, gamma_tpd).items():
        loss = loss - weights[name] * logsigmoid(margin)
    return loss if lambda_av == 0 else loss + lambda_av * modality_dpo(logprobs, beta)


def omni_dpo(
    chosen: tuple[Tensor, Tensor],
    rejected: tuple[Tensor, Tensor],
    without_video: tuple[Tensor, Tensor],
    without_audio: tuple[Tensor, Tensor],
    beta: float = 0.1,
    weight: float = 1.0,
) -> Tensor:
    """OmniDPO (Chen et al., 2025): DPO on two answers, and on the chosen answer with each side of the clip corrupted.

    Args:
        chosen: Policy and reference scores of the chosen answer, each [B].
        rejected: Of the rejected answer.
        without_video: Of the chosen answer with the video replaced.
        without_audio: Of the chosen answer with the audio replaced.
        beta: Inverse temperature of the implicit reward.
        weight: Of each of the two terms on inputs.

    Returns:
        [B], one loss a row.
    """
    others = (rejected, without_video, without_audio)
    terms = [naive_dpo(chosen[0], policy, chosen[1], ref, beta) for policy, ref in others]
    return terms[0] + weight * (terms[1] + terms[2])
