"""The paper's preference objectives as pure functions of summed log-probabilities.

Every objective is `-log sigmoid` of a margin, so the file has two kinds of parts: margins (what the sigmoid sees) and
losses (sums of `-log sigmoid(margin)`). Rivals and ablations are the same margins with other weights: a rejected answer
of weight zero leaves the objective, `gamma_tpd=0` switches text-prior debiasing off, `lambda_av=0` the modality term.

Writing r(y) = log pi_theta(y|a,v,x) - log pi_ref(y|a,v,x) for the log-ratio and t(y) = log pi_text(y|x) for the text
prior, all sums over response tokens. Equation numbers are those of the AVEm-DPO paper (ICLR 2026).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = [
    "LogProbs",
    "avem_dpo",
    "dpo_margin",
    "implicit_rewards",
    "modality_dpo",
    "modality_margin",
    "naive_dpo",
    "response_margin",
    "reward_margin",
    "text_prior_penalty",
    "vista_dpo",
]


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Summed response log-probabilities of B rows; every field is a floating-point tensor [B].

    The policy's scores carry gradients, all others are constants of the run.
    """

    policy_w: Tensor
    """log pi_theta(y_w | a_w, v_w, x): the chosen answer on the row's own clip."""
    policy_vr: Tensor
    """log pi_theta(y_l^vr | a_w, v_w, x): the video-relevant rejected answer."""
    policy_er: Tensor
    """log pi_theta(y_l^er | a_w, v_w, x): the emotion-relevant rejected answer."""
    policy_w_given_l: Tensor
    """log pi_theta(y_w | a_l, v_l, x): the chosen answer on the rejected input."""
    ref_w: Tensor
    ref_vr: Tensor
    ref_er: Tensor
    ref_w_given_l: Tensor
    text_w: Tensor
    """log pi_text(y_w | x): the reference's language model on the text alone."""
    text_vr: Tensor
    text_er: Tensor
    policy_irr: Tensor | None = None
    """Scores of the irrelevant answer y_l^irr, for the rows of Table 18 that reject it."""
    ref_irr: Tensor | None = None
    text_irr: Tensor | None = None


Weight = float | Tensor
"""A weight that all rows share, or one a row [B]."""


def _rejected(
    logprobs: LogProbs, beta_vr: Weight, beta_er: Weight, beta_irr: Weight
) -> Iterator[tuple[Weight, Tensor, Tensor]]:
    """Each rejected answer's weight, log-ratio [B] and text prior [B]."""
    yield beta_vr, logprobs.policy_vr - logprobs.ref_vr, logprobs.text_vr
    yield beta_er, logprobs.policy_er - logprobs.ref_er, logprobs.text_er
    if logprobs.policy_irr is not None and logprobs.ref_irr is not None and logprobs.text_irr is not None:
        yield beta_irr, logprobs.policy_irr - logprobs.ref_irr, logprobs.text_irr


def dpo_margin(policy_w: Tensor, policy_l: Tensor, ref_w: Tensor, ref_l: Tensor, beta: float = 0.1) -> Tensor:
    """Eq. 3's margin, beta r(y_w) - beta r(y_l), and Eq. 4's and 5's u when "l" is y_w on the rejected input.

    Args:
        policy_w: [B] policy score of what is preferred.
        policy_l: [B] policy score of what is rejected.
        ref_w: [B] reference score of what is preferred.
        ref_l: [B] reference score of what is rejected.
        beta: Inverse temperature of the implicit reward.

    Returns:
        [B], positive where the policy has moved towards the preferred side.
    """
    return beta * ((policy_w - ref_w) - (policy_l - ref_l))  # Eq. 3: beta r(y_w) - beta r(y_l), [B]


def text_prior_penalty(text_w: Tensor, text_l: Tensor, gamma_tpd: float = 0.2) -> Tensor:
    """Eq. 7's penalty as it enters Eq. 8: gamma_tpd (t(y_w) - t(y_l)), [B], to be taken off the margin."""
    return gamma_tpd * (text_w - text_l)  # Eq. 7: gamma_tpd [t(y_w) - t(y_l)], [B]


def response_margin(
    logprobs: LogProbs,
    beta: float = 0.1,
    beta_vr: Weight = 0.5,
    beta_er: Weight = 0.5,
    gamma_tpd: float = 0.2,
    beta_irr: Weight = 0.0,
) -> Tensor:
    """Eq. 10's margin: beta [r(w) - sum_i beta_i r(i)] - gamma_tpd [t(w) - sum_i beta_i t(i)]; Eq. 6's at gamma_tpd=0.

    Args:
        logprobs: Scores, each [B].
        beta: Inverse temperature of the implicit reward.
        beta_vr: Weight of the video-relevant rejected answer.
        beta_er: Weight of the emotion-relevant rejected answer.
        gamma_tpd: Strength of text-prior debiasing.
        beta_irr: Weight of the irrelevant answer (Table 18); its scores must then be given.

    Returns:
        [B]. With one weight at 1 and the others at 0 it is the margin of Eq. 8 (of Eq. 3 at gamma_tpd=0).
    """
    ratio = logprobs.policy_w - logprobs.ref_w  # r(y_w), [B]
    prior = logprobs.text_w  # t(y_w), [B]; no gradient: pi_text is a constant of the run (section 4.2)
    for weight, rejected_ratio, rejected_prior in _rejected(logprobs, beta_vr, beta_er, beta_irr):
        ratio = ratio - weight * rejected_ratio  # Eq. 6: - beta_i r(y_l^i)
        prior = prior - weight * rejected_prior  # Eq. 10: the same weights on the text prior
    return beta * ratio - gamma_tpd * prior  # Eq. 10 inside the sigmoid, [B]


def modality_margin(logprobs: LogProbs, beta: float = 0.1) -> Tensor:
    """The u of Eqs. 4 and 5: beta [r(a_w,v_w,x,y_w) - r(a_l,v_l,x,y_w)], [B]; the caller picks (a_l, v_l)."""
    return dpo_margin(logprobs.policy_w, logprobs.policy_w_given_l, logprobs.ref_w, logprobs.ref_w_given_l, beta)


def naive_dpo(policy_w: Tensor, policy_l: Tensor, ref_w: Tensor, ref_l: Tensor, beta: float = 0.1) -> Tensor:
    """Eq. 3, the DPO of Rafailov et al. (2023), before its mean over rows.

    Args:
        policy_w: [B] policy score of the chosen answer.
        policy_l: [B] policy score of the rejected answer.
        ref_w: [B] reference score of the chosen answer.
        ref_l: [B] reference score of the rejected answer.
        beta: Inverse temperature of the implicit reward.

    Returns:
        [B], one loss a row.
    """
    return -logsigmoid(dpo_margin(policy_w, policy_l, ref_w, ref_l, beta))


def modality_dpo(logprobs: LogProbs, beta: float = 0.1) -> Tensor:
    """Eq. 4 (both inputs replaced) or Eq. 5 (those the prompt asks about), whichever the scores stand for; [B]."""
    return -logsigmoid(modality_margin(logprobs, beta))


def avem_dpo(
    logprobs: LogProbs,
    beta: float = 0.1,
    beta_vr: Weight = 0.5,
    beta_er: Weight = 0.5,
    gamma_tpd: float = 0.2,
    lambda_av: float = 1.0,
    beta_irr: Weight = 0.0,
) -> Tensor:
    """Eq. 9, the paper's objective: Eq. 10 + lambda_av Eq. 5, before its mean over rows.

    Ablations (D.5): `lambda_av=0` is w/o PMP; one of the weights at 1 and the others at 0 is w/o ERP (Eq. 11);
    `gamma_tpd=0` is w/o TPD (Eq. 12).

    Args:
        logprobs: Scores, each [B].
        beta: Inverse temperature of the implicit reward.
        beta_vr: Weight of the video-relevant rejected answer.
        beta_er: Weight of the emotion-relevant rejected answer.
        gamma_tpd: Strength of text-prior debiasing.
        lambda_av: Weight of the modality term.
        beta_irr: Weight of the irrelevant answer (Table 18).

    Returns:
        [B], one loss a row.
    """
    response = -logsigmoid(response_margin(logprobs, beta, beta_vr, beta_er, gamma_tpd, beta_irr))  # Eq. 10, [B]
    if lambda_av == 0:
        return response
    return response + lambda_av * modality_dpo(logprobs, beta)  # Eq. 9 = Eq. 10 + lambda_av Eq. 5


def vista_dpo(
    logprobs: LogProbs, beta: float = 0.1, beta_vr: Weight = 0.5, beta_er: Weight = 0.5, lambda_av: float = 1.0
) -> Tensor:
    """Vista-DPO-dagger (D.3): Eq. 6 + lambda_av Eq. 4, where `policy_w_given_l` has both inputs replaced; [B]."""
    return avem_dpo(logprobs, beta, beta_vr, beta_er, gamma_tpd=0.0, lambda_av=lambda_av)


def implicit_rewards(logprobs: LogProbs, beta: float = 0.1) -> dict[str, Tensor]:
    """Implicit rewards beta r(y) of Eq. 2, no gradient, each [B]: `w`, `vr`, `er`, `w_given_l`, `irr` if given."""
    names = ("w", "vr", "er", "w_given_l") if logprobs.policy_irr is None else ("w", "vr", "er", "w_given_l", "irr")
    with torch.no_grad():
        return {
            name: beta * (getattr(logprobs, f"policy_{name}") - getattr(logprobs, f"ref_{name}")).detach()
            for name in names
        }


def reward_margin(
    logprobs: LogProbs, beta: float = 0.1, beta_vr: Weight = 0.5, beta_er: Weight = 0.5, beta_irr: Weight = 0.0
) -> Tensor:
    """Chosen reward minus the weighted rejected ones (Eq. 6's margin), without gradient, [B]."""
    with torch.no_grad():
        return response_margin(logprobs, beta, beta_vr, beta_er, 0.0, beta_irr).detach()
