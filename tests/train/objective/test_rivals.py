"""Objectives beyond the paper's: sums done by hand, limits in which they become others, gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.train.losses import LogProbs, avem_dpo, modality_margin
from avem.train.objective.terms import RejectedInput, RowScores, row_losses
from avem.train.rivals import (
    anchor_loss,
    implicit_value,
    ipo_loss,
    mod_dpo_value,
    nll_loss,
    omni_dpo,
    robust_loss,
    simpo_value,
    smoothed_loss,
    split_dpo,
    split_margins,
)
from avem.train.settings.config import PreferenceConfig
from avem.train.settings.presets import PREFERENCE_PRESETS
from avem.train.settings.sources import build_config
from tests.train.objective.test_losses import HAND, POLICY, logprobs_of, rows

PATHS = {"cache": "cache", "model": "model", "out": "run", "prefs": "prefs.jsonl"}
margins = st.floats(-30, 30)
noise = st.floats(0.01, 0.45)


def number(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


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
@settings(max_examples=50)
def test_with_one_rejected_answer_split_dpo_is_the_papers(values):
    scores = logprobs_of(values)
    for weights in ({"beta_vr": 1.0, "beta_er": 0.0}, {"beta_vr": 0.0, "beta_er": 1.0}):
        assert split_dpo(scores, **weights).item() == pytest.approx(avem_dpo(scores, **weights).item(), abs=1e-9)


@given(rows)
@settings(max_examples=50)
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


def test_values_by_hand():
    assert implicit_value(number(-14.0), number(-13.0), number(-18.0), 0.1, 0.2).item() == pytest.approx(-0.1 + 3.6)
    assert simpo_value(number(-10.0), number(5.0), beta=2.0).item() == -4.0
    # 0.1 * (-14 + 13) + 0.1 * (-14 + 15) - 0.05 * (-14 + 16) = -0.1 + 0.1 - 0.1
    value = mod_dpo_value(number(-14.0), number(-13.0), number(-15.0), number(-16.0), 0.1, 0.1, 0.05)
    assert value.item() == pytest.approx(-0.1, abs=1e-12)


def test_losses_of_a_margin_by_hand():
    margin = number(0.35)
    assert smoothed_loss(margin).item() == pytest.approx(lost(0.35), abs=1e-12)
    assert smoothed_loss(margin, 0.1).item() == pytest.approx(0.9 * lost(0.35) + 0.1 * lost(-0.35), abs=1e-12)
    assert robust_loss(margin, 0.1).item() == pytest.approx((0.9 * lost(0.35) - 0.1 * lost(-0.35)) / 0.8, abs=1e-12)
    assert ipo_loss(margin, 0.1).item() == pytest.approx((3.5 - 5.0) ** 2, abs=1e-12)


def test_terms_by_hand():
    assert anchor_loss(number(-10.0), number(-12.0)).item() == pytest.approx(lost(0.2), abs=1e-12)
    assert nll_loss(number(-10.0), number(4.0)).item() == 2.5


def test_omni_dpo_by_hand():
    # r(w) = 2; r(l) = -1, r(w | v_l) = -1, r(w | a_l) = 1: margins 0.3, 0.3 and 0.1.
    pairs = [(number(a), number(b)) for a, b in ((-10.0, -12.0), (-14.0, -13.0), (-16.0, -15.0), (-14.0, -15.0))]
    assert omni_dpo(*pairs).item() == pytest.approx(lost(0.3) + lost(0.3) + lost(0.1), abs=1e-12)
    assert omni_dpo(*pairs, weight=0.5).item() == pytest.approx(lost(0.3) + 0.5 * (lost(0.3) + lost(0.1)), abs=1e-12)


@given(margins, noise)
@settings(max_examples=50)
def test_the_mean_of_robust_dpo_over_flipped_preferences_is_dpo_on_the_right_ones(margin, share):
    right, flipped = robust_loss(number(margin), share), robust_loss(number(-margin), share)
    assert ((1 - share) * right + share * flipped).item() == pytest.approx(
        smoothed_loss(number(margin)).item(), abs=1e-9
    )


@given(noise)
@settings(max_examples=50)
def test_conservative_dpo_rests_where_the_model_is_as_sure_as_the_labels(share):
    margin = torch.logit(number(1 - share)).requires_grad_()
    smoothed_loss(margin, share).sum().backward()
    assert margin.grad.item() == pytest.approx(0.0, abs=1e-12)


@given(st.floats(0.01, 1.0))
@settings(max_examples=20)
def test_ipo_rests_where_the_log_ratio_is_half_of_one_over_beta(beta):
    margin = number(0.5).requires_grad_()  # beta times the log-ratio 1 / (2 beta)
    loss = ipo_loss(margin, beta)
    loss.sum().backward()
    assert (loss.item(), margin.grad.item()) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_simpo_does_not_prefer_an_answer_for_being_short():
    per_token, long, short = -0.5, number(20.0), number(2.0)
    assert simpo_value(per_token * long, long).item() == pytest.approx(simpo_value(per_token * short, short).item())


@given(st.integers(0, 1000), st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 0.9))
@settings(max_examples=50)
def test_mod_dpo_gives_back_the_reward_of_which_a_policy_is_the_optimum(seed, beta, invariance, share):
    sensitivity = share * (beta + invariance)
    generator = torch.Generator().manual_seed(seed)
    reward, ref, irrelevant, relevant = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    ref, irrelevant, relevant = (part.log_softmax(0) for part in (ref, irrelevant, relevant))

    def objective(policy: torch.Tensor) -> torch.Tensor:
        def distance(other: torch.Tensor) -> torch.Tensor:
            return (policy.exp() * (policy - other)).sum()

        expected = (policy.exp() * reward).sum()
        return expected - beta * distance(ref) - invariance * distance(irrelevant) + sensitivity * distance(relevant)

    logits = (reward + beta * ref + invariance * irrelevant - sensitivity * relevant) / (
        beta + invariance - sensitivity
    )
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(objective(logits.log_softmax(0)), logits)
    assert slope.abs().max().item() < 1e-9  # it is the optimum
    policy = logits.detach().log_softmax(0)
    value = mod_dpo_value(policy, ref, irrelevant, relevant, beta, invariance, sensitivity)
    difference = value - reward
    assert (difference - difference[0]).abs().max().item() < 1e-9


def test_no_gradient_flows_to_the_corrupted_inputs():
    policy, irrelevant, relevant = (number(value).requires_grad_() for value in (-14.0, -15.0, -16.0))
    mod_dpo_value(policy, number(-13.0), irrelevant, relevant, 0.1, 0.1, 0.05).sum().backward()
    assert policy.grad.item() == pytest.approx(0.15)
    assert irrelevant.grad is None
    assert relevant.grad is None


def hand_scores() -> RowScores:
    """The rejected answer is the video-relevant one, of weight 1; each part can be followed in the head."""
    return RowScores(
        logprobs_of({**HAND, "policy_irr": 0.0, "ref_irr": 0.0, "text_irr": 0.0}),
        {"vr": number(1.0), "er": number(0.0), "irr": number(0.0)},
        tokens={"w": number(4.0), "vr": number(7.0), "er": number(6.0), "irr": number(0.0)},
        corrupted={
            "w_irrelevant": number(-11.0),
            "w_relevant": number(-16.0),
            "vr_irrelevant": number(-15.0),
            "vr_relevant": number(-14.0),
        },
        has_irrelevant=number(1.0),
        inputs=(
            RejectedInput(number(-16.0), number(-15.0), number(1.0)),
            RejectedInput(number(-14.0), number(-15.0), number(1.0)),
        ),
    )


# r(w) = 2, r(vr) = -1: Eq. 3's margin is 0.3. t(w) - t(vr) = -2. r(w | a_l, v_l) = -1: Eq. 4's margin is 0.3.
# MoD-DPO: w has 0.2 + 0.1 * 1 - 0.05 * 6 = 0.0, vr has -0.1 + 0.1 * 1 - 0.05 * 0 = 0.0.
# In SimPO, w has 2 (-10 / 4) = -5 and vr 2 (-14 / 7) = -4, and the target is 1: the margin is -2.
BY_HAND = {
    "naive-dpo": lost(0.3),
    "mod-dpo": lost(0.0),
    "mod-dpo-plus": lost(0.4),
    "omni-dpo": lost(0.3) + lost(0.3) + lost(0.1),
    "mdpo": lost(0.3) + lost(0.3) + lost(0.2),
    "rpo": lost(0.3) + 2.5,
    "simpo": lost(-2.0),
    "ipo": (3.0 - 5.0) ** 2,
    "cdpo": 0.9 * lost(0.3) + 0.1 * lost(-0.3),
    "robust-dpo": (0.9 * lost(0.3) - 0.1 * lost(-0.3)) / 0.8,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_rivals_preset_by_hand(name):
    config = build_config(PreferenceConfig, PATHS, preset=PREFERENCE_PRESETS[name])
    scores = hand_scores()
    if config.rejected_input != "each":
        scores = dataclasses.replace(scores, inputs=())
    assert row_losses(scores, config).loss.item() == pytest.approx(BY_HAND[name], abs=1e-12)


def test_without_an_irrelevant_side_only_sensitivity_is_left():
    config = build_config(PreferenceConfig, PATHS, preset=PREFERENCE_PRESETS["mod-dpo"])
    scores = dataclasses.replace(hand_scores(), inputs=(), has_irrelevant=number(0.0))
    assert row_losses(scores, config).loss.item() == pytest.approx(lost(0.2 - 0.3 + 0.1), abs=1e-12)


def test_a_side_that_a_clip_lacks_has_no_term():
    config = build_config(PreferenceConfig, PATHS, preset=PREFERENCE_PRESETS["omni-dpo"])
    scores = hand_scores()
    silent = dataclasses.replace(scores.inputs[1], there=number(0.0))
    scores = dataclasses.replace(scores, inputs=(scores.inputs[0], silent))
    assert row_losses(scores, config).loss.item() == pytest.approx(2 * lost(0.3), abs=1e-12)


@given(rows)
@settings(max_examples=30)
def test_with_the_papers_settings_the_parts_make_up_the_papers_objective(values):
    scores = logprobs_of(values)
    half = {"vr": number(0.5), "er": number(0.5)}
    config = PreferenceConfig(**PATHS)
    assert row_losses(RowScores(scores, half), config).loss.item() == avem_dpo(scores).item()
    split = dataclasses.replace(config, rejected="each")
    assert row_losses(RowScores(scores, half), split).loss.item() == pytest.approx(split_dpo(scores).item(), abs=1e-12)


def test_parts_combine_freely():
    # Eq. 8 for each answer, smoothed; Eq. 5; the anchor; the supervised loss.
    scores: LogProbs = logprobs_of(HAND)
    parts = RowScores(scores, {"vr": number(0.5), "er": number(0.5)}, tokens={"w": number(4.0)})
    config = PreferenceConfig(**PATHS, rejected="each", label_smoothing=0.1, anchor=0.5, nll=0.2)
    smoothed = [0.9 * lost(margin) + 0.1 * lost(-margin) for margin in (0.7, 0.2)]
    expected = 0.5 * sum(smoothed) + lost(0.3) + 0.5 * lost(0.2) + 0.2 * 2.5
    assert row_losses(parts, config).loss.item() == pytest.approx(expected, abs=1e-12)
