"""Objectives beyond the paper's: sums done by hand, limits in which they become others, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings

from avem.train.losses import avem_dpo, modality_margin
from avem.train.rivals import split_dpo, split_margins
from tests.train.objective.test_losses import HAND, POLICY, logprobs_of, rows


def lost(margin: float) -> float:
    """-log sigmoid of a margin."""
    return math.log1p(math.exp(-margin))


def test_split_dpo_by_hand():
    # r(w) = 2, r(vr) = -1, r(er) = -2; t(w) - t(vr) = -2, t(w) - t(er) = 1.
    # Eq. 8 against vr: 0.1 * 3 + 0.2 * 2 = 0.7; against er: 0.1 * 4 - 0.2 * 1 = 0.2. Eq. 5: 0.3.
    scores = logprobs_of(HAND)
    assert {name: margin.item() for name, margin in split_margins(scores).items()} == pytest.approx(
        {"vr": 0.7, "er": 0.2}, abs=1e-12
    )
    expected = 0.5 * lost(0.7) + 0.5 * lost(0.2) + lost(0.3)
    assert split_dpo(scores).item() == pytest.approx(expected, abs=1e-12)
    assert split_dpo(scores, lambda_av=0.0).item() == pytest.approx(expected - lost(0.3), abs=1e-12)


def test_split_dpo_takes_the_irrelevant_answer_with_its_weight():
    scores = logprobs_of({**HAND, "policy_irr": -27.0, "ref_irr": -30.0, "text_irr": -30.0})
    # r(irr) = 3, so 0.1 * (2 - 3) - 0.2 * (-20 + 30) = -2.1
    by_hand = 0.7 * lost(0.7) + 0.3 * lost(-2.1)
    found = split_dpo(scores, beta_vr=0.7, beta_er=0.0, beta_irr=0.3, lambda_av=0.0)
    assert found.item() == pytest.approx(by_hand, abs=1e-12)


@given(rows)
@settings(max_examples=50, deadline=None)
def test_with_one_rejected_answer_split_dpo_is_the_papers(values):
    scores = logprobs_of(values)
    for weights in ({"beta_vr": 1.0, "beta_er": 0.0}, {"beta_vr": 0.0, "beta_er": 1.0}):
        assert split_dpo(scores, **weights).item() == pytest.approx(avem_dpo(scores, **weights).item(), abs=1e-9)


@given(rows)
@settings(max_examples=50, deadline=None)
def test_split_dpo_pushes_each_answer_by_its_own_chance_of_being_wrong(values):
    scores = logprobs_of(values, grad=True)
    split_dpo(scores).sum().backward()
    wrong = {name: torch.sigmoid(-margin).item() for name, margin in split_margins(scores).items()}
    input_wrong = torch.sigmoid(-modality_margin(scores)).item()
    expected = {
        "policy_w": -0.1 * (0.5 * wrong["vr"] + 0.5 * wrong["er"] + input_wrong),
        "policy_vr": 0.05 * wrong["vr"],
        "policy_er": 0.05 * wrong["er"],
        "policy_w_given_l": 0.1 * input_wrong,
    }
    for name in POLICY:
        assert getattr(scores, name).grad.item() == pytest.approx(expected[name], abs=1e-12), name
