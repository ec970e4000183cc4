"""Bootstrap over clips and paired comparison."""

import numpy as np
import pytest

from avem.errors import DataError
from avem.evaluate.bootstrap import resample_sums
from avem.evaluate.emorealm.metrics import Outcome
from avem.evaluate.emorealm.statistics import compare, intervals, mcnemar
from avem.records import Question


def outcomes(right, clips, gold="AB", task="modality_agreement"):
    """Yes/no outcomes: `right[i]` on clip `clips[i]`, answers alternating."""
    result = []
    for number, (correct, clip) in enumerate(zip(right, clips, strict=True)):
        answer = gold[number % len(gold)]
        question = Question(f"{task}{number}", f"{clip}.mp4", task, "?", ("(A) Yes", "(B) No"), answer)
        result.append(Outcome(question, answer if correct else "BA"[answer == "B"]))
    return result


def test_sums_are_of_drawn_rows():
    sums = resample_sums(np.array([[1.0, 10.0], [2.0, 20.0]]), 400, np.random.default_rng(0))
    assert sums.shape == (400, 2)
    assert set(sums[:, 0]) == {2.0, 3.0, 4.0}
    np.testing.assert_allclose(sums[:, 1], 10 * sums[:, 0])
    assert np.mean(sums[:, 0] == 3.0) == pytest.approx(0.5, abs=0.1)


def test_interval_covers_the_binomial_one_where_clips_are_single():
    random = np.random.default_rng(1)
    answered = outcomes(random.random(400) < 0.7, range(400))
    low, high = intervals(answered, 2000)["tasks"]["modality_agreement"]["accuracy"]
    half = 100 * 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_questions_on_one_clip_count_as_one():
    """Ten copies of each question, all on its clip, must leave the interval as it was."""
    random = np.random.default_rng(2)
    right = random.random(100) < 0.6
    single = intervals(outcomes(right, range(100), gold="A"))["tasks"]["modality_agreement"]["accuracy"]
    copied = intervals(outcomes(np.repeat(right, 10), np.repeat(range(100), 10), gold="A"))
    assert copied["tasks"]["modality_agreement"]["accuracy"] == pytest.approx(single)


def test_same_seed_same_numbers():
    answered = outcomes([True, False, True, True], [1, 1, 2, 3])
    assert intervals(answered, 200, seed=5) == intervals(answered, 200, seed=5)
    assert intervals(answered, 200, seed=5) != intervals(answered, 200, seed=6)


def test_metric_without_questions_has_no_interval():
    spread = intervals(outcomes([True, False], [1, 2], gold="A"), 50)["tasks"]["modality_agreement"]
    assert "no_accuracy" not in spread
    assert "yes_accuracy" in spread


def test_mcnemar_by_hand():
    clips = range(6)
    base = outcomes([True, False, False, False, False, False], clips)
    other = outcomes([False, True, True, True, True, False], clips)
    # 4 gained, 1 lost: two-sided binomial tail 2 * (5 + 1) / 32.
    assert mcnemar(list(zip(base, other, strict=True))) == {"gained": 4, "lost": 1, "p": pytest.approx(0.375)}
    assert mcnemar(list(zip(base, base, strict=True)))["p"] == 1.0


def test_compare():
    clips = np.repeat(range(50), 2)
    base, other = outcomes([False, True] * 50, clips), outcomes([True, True] * 50, clips)
    result = compare(base, list(reversed(other)), resamples=300)
    task = result["tasks"]["modality_agreement"]
    assert task["metrics"]["accuracy"] == {"difference": 50.0, "low": 50.0, "high": 50.0}
    assert task["metrics"]["yes_accuracy"]["difference"] == 100.0
    assert task["mcnemar"]["gained"] == 50
    assert result["average_accuracy"]["difference"] == 50.0
    with pytest.raises(DataError, match="different questions"):
        compare(base, other[1:])
