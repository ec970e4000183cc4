"""Objectives beyond the paper's, as pure functions of summed log-probabilities; `docs/objectives.md` lists them.

They have the parts of `avem.train.losses`: margins (what the loss sees) and losses of a margin. Most need the same
scores as the paper's. `r(y)` and `t(y)` are the log-ratio and the text prior, as there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from avem.train.losses import LogProbs, Weight, dpo_margin, modality_dpo, text_prior_penalty

__all__ = ["split_dpo", "split_margins"]


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
