"""AUC and d': values by hand, what they do not depend on, and their intervals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from avem.evaluate.emorealm.detection import (
    auc,
    cue_detection,
    d_prime,
    detection,
    log_odds,
    resampled_auc,
    weighted_auc,
)
from avem.records import Question

numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=12).map(np.array)


def question(number, answer, choices=("(A) Yes", "(B) No"), task="reasoning_stress_audio"):
    return Question(f"q{number}", f"c{number // 2}.mp4", task, "Is it?", choices, answer)


def test_log_odds_are_of_yes_wherever_it_stands():
    asked = [question(0, "A"), question(1, "A", ("(A) No", "(B) Yes")), question(2, "B", ("(A) x", "(B) y"))]
    found = log_odds(asked, {"q0": (-1.0, -3.0), "q1": (-1.0, -3.0), "q2": (-1.0, -2.0)})
    assert [(each.yes, each.value) for each in found] == [(True, 2.0), (False, -2.0)]


@given(numbers, numbers)
def test_auc_is_the_statistic_of_mann_and_whitney(yes, no):
    expected = mannwhitneyu(yes, no).statistic / (len(yes) * len(no))
    assert auc(yes, no) == pytest.approx(expected)


@given(st.floats(-3, 3))
def test_saying_no_more_often_changes_neither(shift):
    yes, no = np.array([1.0, 3.0, 2.5]), np.array([-1.0, 1.0, 2.6])
    assert auc(yes + shift, no + shift) == pytest.approx(auc(yes, no))
    assert d_prime(yes + shift, no + shift) == pytest.approx(d_prime(yes, no))


def test_numbers_of_a_task_by_hand():
    asked = [question(number, "AB"[number % 2]) for number in range(4)]
    values = {"q0": (1.0, 0.0), "q1": (0.0, 1.0), "q2": (3.0, 0.0), "q3": (1.0, 0.0)}
    found = detection(log_odds(asked, values), resamples=200, seed=1)["reasoning_stress_audio"]
    assert found["n"] == 4
    assert found["auc"] == 100 * 3.5 / 4  # 1 ties with 1
    assert found["d_prime"] == pytest.approx((2 - 0) / np.sqrt((2 + 2) / 2))
    low, high = found["auc_interval"]
    assert 0 <= low <= found["auc"] <= high <= 100
    assert found == detection(log_odds(asked, values), resamples=200, seed=1)["reasoning_stress_audio"]


def test_nothing_to_tell_apart():
    found = detection(log_odds([question(0, "A")], {"q0": (1.0, 0.0)}), resamples=50)["reasoning_stress_audio"]
    assert (found["auc"], found["d_prime"]) == (None, None)
    assert "auc_interval" not in found


def cue(number, subtask, **fields):
    return replace(
        question(number, "A" if subtask == "no_hallucination" else "B"), extra={"subtask": subtask}, **fields
    )


def test_kinds_of_cues_by_hand():
    kinds = ("no_hallucination", "no_hallucination", "spurious", "spurious", "hallucinated", "hallucinated")
    asked = [cue(number, kind) for number, kind in enumerate(kinds)]
    odds = (2.0, 4.0, 1.0, 3.0, 2.0, 4.0)
    values = {each.id: (value, 0.0) for each, value in zip(asked, odds, strict=True)}
    found = cue_detection(log_odds(asked, values), resamples=100, seed=1)["reasoning_stress_audio"]
    assert found["spurious"]["auc"] == 75.0  # 2 > 1, 4 > 1, 4 > 3, but 2 < 3
    assert found["spurious"]["d_prime"] == pytest.approx(1 / np.sqrt(2))
    assert found["hallucinated"]["auc"] == 50.0
    assert found["hallucinated"]["d_prime"] == 0.0
    assert (found["spurious"]["yes_n"], found["spurious"]["no_n"], found["spurious"]["n"]) == (2, 2, 4)
    low, high = found["spurious"]["auc_interval"]
    assert 0 <= low <= 75 <= high <= 100


def test_no_questions_without_a_kind_are_left_out():
    asked = [question(0, "A"), question(1, "B"), cue(2, "spurious")]
    values = {"q0": (1.0, 0.0), "q1": (2.0, 0.0), "q2": (0.0, 0.0)}
    found = cue_detection(log_odds(asked, values))["reasoning_stress_audio"]
    assert {kind: numbers["auc"] for kind, numbers in found.items()} == {"spurious": 100.0}
    assert cue_detection(log_odds(asked[1:], values)) == {}  # no yes-question to compare with


def test_two_models_get_the_same_draws_of_clips():
    asked = [question(number, "AB"[number % 2]) for number in range(6)]
    base = log_odds(asked, {each.id: (value, 0.0) for each, value in zip(asked, (2, 1, 0, 3, 1, 2), strict=True)})
    shifted = [replace(each, value=each.value + 5) for each in reversed(base)]
    first, second = (resampled_auc(odds, 200, 1) for odds in (base, shifted))
    assert np.array_equal(first, second)
    assert set(np.round(first, 3)) > {0.0, 1.0}  # clip 0 alone, and clips 1 and 2 alone
    assert np.isnan(resampled_auc([], 5, 1)).tolist() == [True] * 5


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_weighted_auc_is_that_of_repeated_questions(asked):
    value, right, weight = map(np.array, zip(*asked, strict=True))
    repeated, yes = np.repeat(value, weight).astype(float), np.repeat(right, weight)
    expected = auc(repeated[yes], repeated[~yes])
    found = weighted_auc(value.astype(float), right, weight[None].astype(float))
    assert found[0] == pytest.approx(expected, nan_ok=True)
