"""The objectives: equal to reference numbers, to sums done by hand, and with gradients that point the right way."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from avem.train.losses import (
    LogProbs,
    avem_dpo,
    dpo_margin,
    implicit_rewards,
    modality_dpo,
    modality_margin,
    naive_dpo,
    response_margin,
    reward_margin,
    text_prior_penalty,
    vista_dpo,
)

POLICY = ("policy_w", "policy_vr", "policy_er", "policy_w_given_l")
NAMES = tuple(field.name for field in dataclasses.fields(LogProbs) if field.default is dataclasses.MISSING)


def logprobs_of(values: dict[str, object], grad: bool = False) -> LogProbs:
    return LogProbs(
        **{
            name: torch.as_tensor(np.asarray(value), dtype=torch.float64).reshape(-1).requires_grad_(grad)
            for name, value in values.items()
        }
    )


@pytest.fixture(scope="module")
def golden_scores(golden: Path) -> np.lib.npyio.NpzFile:
    return np.load(golden / "preference" / "io.npz")


@pytest.fixture(scope="module")
def golden_losses(golden: Path) -> list[dict]:
    return json.loads((golden / "preference" / "meta.json").read_text())["losses"]


def golden_logprobs(scores: np.lib.npyio.NpzFile, rejected_input: str) -> LogProbs:
    values: dict[str, object] = {}
    for side, name in (("policy", "policy"), ("ref", "reference")):
        for answer in ("w", "vr", "er"):
            values[f"{side}_{answer}"] = scores[f"logp_{name}_avw_y{answer}"]
        values[f"{side}_w_given_l"] = scores[f"logp_{name}_avl_{rejected_input}_yw"]
    for answer in ("w", "vr", "er"):
        values[f"text_{answer}"] = scores[f"logp_text_y{answer}"]
    return logprobs_of(values)


@pytest.mark.parametrize("hyper_set", [0, 1])
def test_every_objective_equals_the_reference_numbers(golden_scores, golden_losses, hyper_set):
    expected = golden_losses[hyper_set]["per_sample"]
    hyper = golden_losses[hyper_set]["hyper"]
    beta, gamma, lam = hyper["beta"], hyper["gamma_tpd"], hyper["lambda_av"]
    weights = {"beta_vr": hyper["beta_vr"], "beta_er": hyper["beta_er"]}
    only = {"vr": {"beta_vr": 1.0, "beta_er": 0.0}, "er": {"beta_vr": 0.0, "beta_er": 1.0}}
    pmp, both = golden_logprobs(golden_scores, "pmp"), golden_logprobs(golden_scores, "both")
    got = {
        "dpo_y_eq6": avem_dpo(pmp, beta, **weights, gamma_tpd=0.0, lambda_av=0.0),
        "dpo_y_tpd_eq10": avem_dpo(pmp, beta, **weights, gamma_tpd=gamma, lambda_av=0.0),
        "av_prompt_eq5": modality_dpo(pmp, beta),
        "av_both_eq4": modality_dpo(both, beta),
        "vista_dagger_eq4_plus_eq6": vista_dpo(both, beta, **weights),
        "vista_dagger_lambda": vista_dpo(both, beta, **weights, lambda_av=lam),
        "avem_dpo_eq9": avem_dpo(pmp, beta, **weights, gamma_tpd=gamma, lambda_av=lam),
        "wo_pmp": avem_dpo(pmp, beta, **weights, gamma_tpd=gamma, lambda_av=0.0),
        "wo_tpd_eq12": avem_dpo(pmp, beta, **weights, gamma_tpd=0.0),
        "wo_tpd_lambda": avem_dpo(pmp, beta, **weights, gamma_tpd=0.0, lambda_av=lam),
    }
    for name, single in only.items():
        policy, ref, text = (getattr(pmp, f"{side}_{name}") for side in ("policy", "ref", "text"))
        got[f"dpo_{name}_eq3"] = naive_dpo(pmp.policy_w, policy, pmp.ref_w, ref, beta)
        margin = dpo_margin(pmp.policy_w, policy, pmp.ref_w, ref, beta) - text_prior_penalty(pmp.text_w, text, gamma)
        got[f"dpo_tpd_{name}_eq8"] = -logsigmoid(margin)
        got[f"wo_erp_{name}_eq11"] = avem_dpo(pmp, beta, **single, gamma_tpd=gamma)
        got[f"wo_erp_{name}_lambda"] = avem_dpo(pmp, beta, **single, gamma_tpd=gamma, lambda_av=lam)
    assert got.keys() == expected.keys()
    for name, value in got.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("hyper_set", [0, 1])
def test_margins_equal_the_reference_numbers(golden_scores, golden_losses, hyper_set):
    expected = golden_losses[hyper_set]["margins"]
    hyper = golden_losses[hyper_set]["hyper"]
    beta, beta_vr, beta_er = hyper["beta"], hyper["beta_vr"], hyper["beta_er"]
    pmp, both = golden_logprobs(golden_scores, "pmp"), golden_logprobs(golden_scores, "both")
    got = {
        "y_eq6": reward_margin(pmp, beta, beta_vr, beta_er),
        "y_tpd_eq10": response_margin(pmp, beta, beta_vr, beta_er, hyper["gamma_tpd"]),
        "av_prompt_eq5": modality_margin(pmp, beta),
        "av_both_eq4": modality_margin(both, beta),
    }
    for name, value in got.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=0, atol=1e-9, err_msg=name)


HAND = {
    "policy_w": -10.0,
    "policy_vr": -14.0,
    "policy_er": -12.0,
    "policy_w_given_l": -16.0,
    "ref_w": -12.0,
    "ref_vr": -13.0,
    "ref_er": -10.0,
    "ref_w_given_l": -15.0,
    "text_w": -20.0,
    "text_vr": -18.0,
    "text_er": -21.0,
}


def test_avem_dpo_by_hand():
    # r(w) = 2, r(vr) = -1, r(er) = -2: Eq. 6's bracket is 2 + 0.5 + 1 = 3.5, times beta 0.35.
    # t(w) - (t(vr) + t(er))/2 = -20 + 19.5 = -0.5, so TPD adds 0.1: margin 0.45.
    # r(w | a_l, v_l) = -1: u = 0.1 * (2 + 1) = 0.3.
    expected = math.log1p(math.exp(-0.45)) + math.log1p(math.exp(-0.3))
    assert avem_dpo(logprobs_of(HAND)).item() == pytest.approx(expected, abs=1e-12)


def test_vista_dpo_by_hand():
    expected = math.log1p(math.exp(-0.35)) + math.log1p(math.exp(-0.3))
    assert vista_dpo(logprobs_of(HAND)).item() == pytest.approx(expected, abs=1e-12)


def test_naive_dpo_by_hand():
    scores = logprobs_of(HAND)
    loss = naive_dpo(scores.policy_w, scores.policy_er, scores.ref_w, scores.ref_er, beta=0.5)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-0.5 * 4)), abs=1e-12)


def test_irrelevant_answer_enters_with_its_weight():
    # Table 18: y_er with weight 0.7 and y_irr with 0.3; r(irr) = 3, t(irr) = -30.
    scores = logprobs_of({**HAND, "policy_irr": -27.0, "ref_irr": -30.0, "text_irr": -30.0})
    margin = response_margin(scores, 0.1, 0.0, 0.7, 0.2, beta_irr=0.3)
    by_hand = 0.1 * (2 + 0.7 * 2 - 0.3 * 3) - 0.2 * (-20 + 0.7 * 21 + 0.3 * 30)
    assert margin.item() == pytest.approx(by_hand, abs=1e-12)


def test_weights_can_differ_from_row_to_row():
    scores = logprobs_of({name: [value, value] for name, value in HAND.items()})
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    mixed = avem_dpo(scores, beta_vr=first, beta_er=1 - first)
    one = logprobs_of(HAND)
    assert mixed[0].item() == pytest.approx(avem_dpo(one, beta_vr=1.0, beta_er=0.0).item(), abs=1e-12)
    assert mixed[1].item() == pytest.approx(avem_dpo(one, beta_vr=0.0, beta_er=1.0).item(), abs=1e-12)


def test_rewards_by_hand():
    rewards = implicit_rewards(logprobs_of(HAND, grad=True))
    assert {name: round(value.item(), 12) for name, value in rewards.items()} == {
        "w": 0.2,
        "vr": -0.1,
        "er": -0.2,
        "w_given_l": -0.1,
    }
    assert not any(value.requires_grad for value in rewards.values())


score = st.floats(-300, -1e-3)
rows = st.fixed_dictionaries(dict.fromkeys(NAMES, score))


@given(rows)
@settings(max_examples=100)
def test_gradient_raises_the_chosen_and_lowers_every_rejected_score(values):
    scores = logprobs_of(values, grad=True)
    avem_dpo(scores).sum().backward()
    assert scores.policy_w.grad.item() <= 0
    for name in POLICY[1:]:
        assert getattr(scores, name).grad.item() >= 0, name


@given(rows, st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=100)
def test_gradient_is_beta_times_the_chance_of_being_wrong(values, beta, gamma, lam):
    # d/dm of -log sigmoid(m) is -(1 - sigmoid(m)); r(w) enters both margins with beta.
    scores = logprobs_of(values, grad=True)
    avem_dpo(scores, beta, 0.5, 0.5, gamma, lam).sum().backward()
    with torch.no_grad():
        wrong = torch.sigmoid(-response_margin(scores, beta, 0.5, 0.5, gamma))
        wrong_input = torch.sigmoid(-modality_margin(scores, beta))
        expected = {
            "policy_w": -beta * (wrong + lam * wrong_input),
            "policy_vr": 0.5 * beta * wrong,
            "policy_er": 0.5 * beta * wrong,
            "policy_w_given_l": lam * beta * wrong_input,
        }
    for name, value in expected.items():
        gradient = getattr(scores, name).grad
        assert (0.0 if gradient is None else gradient.item()) == pytest.approx(value.item(), abs=1e-12), name


@given(rows)
@settings(max_examples=50)
def test_a_policy_equal_to_the_reference_sees_only_the_text_prior(values):
    for name in POLICY:
        values[name.replace("policy", "ref")] = values[name]
    scores = logprobs_of(values)
    prior = scores.text_w - 0.5 * (scores.text_vr + scores.text_er)
    expected = -logsigmoid(-0.2 * prior) + math.log(2)
    assert avem_dpo(scores).item() == pytest.approx(expected.item(), abs=1e-9)
    assert vista_dpo(scores).item() == pytest.approx(2 * math.log(2), abs=1e-9)


def test_extreme_margins_stay_finite_in_float32():
    scores = LogProbs(*(torch.tensor([value], dtype=torch.float32) for value in (-5000.0, *[-1.0] * 10)))
    loss = avem_dpo(dataclasses.replace(scores, policy_w=scores.policy_w.requires_grad_()))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(scores.policy_w.grad).all()
