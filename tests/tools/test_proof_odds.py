"""The proof without thresholds: log-odds kept, AUC and d' by hand, parts of a proof joined, and where its noise is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError
from avem.tools.project.proof.claims import AVEM, OWN, own_claims, paper_claims
from avem.tools.project.proof.evaluation import evaluate_record, twin_of
from avem.tools.project.proof.ground.making import USUAL
from avem.tools.project.proof.ground.rows import FORMS, REASONS, VERDICTS, preferences
from avem.tools.project.proof.ground.scenes import Split, draw_splits
from avem.tools.project.proof.plan import CURVES
from avem.tools.project.proof.results.odds import DETECTION, TWINS, pack, unpack
from avem.tools.project.proof.results.record import Answered, Record
from avem.tools.project.proof.tables import open_claims
from avem.tools.project.proof.variance import MORE_CLIPS, MORE_SEEDS, needed_to_decide, power, seeds_needed, split
from avem.tools.project.proof.verdicts import HOLDS, OPEN, Claim, Verdict
from tests.tools.test_proof import answered

CLIPS = 12


def record(runs: dict[str, dict[int, list[float]]], about: dict | None = None) -> Record:
    """Runs by the log-odds of Yes of a clip's eight yes-or-no questions; every clip has the same, slightly moved."""
    made = {}
    for run, own in runs.items():
        for seed, values in own.items():
            base = answered(np.arange(10 * CLIPS) % 3 > seed)
            odds = []
            for number, one in enumerate(base.odds):
                moved = values[number % 8] + 1e-3 * (number // 8)
                odds.append(type(one)(one.clip, one.task, one.yes, moved, one.subtask))
            made.setdefault(run, {})[seed] = Answered(base.outcomes, odds)
    return Record.of(made, about or {})


# agreement yes, no; sound: yes, spurious, hallucinated; picture: yes, spurious, hallucinated
ALL_TOLD = [2.0, -2.0, 2.0, -2.0, -2.0, 2.0, -2.0, -2.0]
SPURIOUS_ONLY = [1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 2.0]


def test_measures_do_not_depend_on_the_threshold():
    moved = [value - 5 for value in SPURIOUS_ONLY]  # says no to everything, and tells as much apart
    point, drawn = record({"all": {0: ALL_TOLD}, "some": {0: SPURIOUS_ONLY}, "moved": {0: moved}}).detected()
    assert {name: point["all"][name].tolist() for name in DETECTION} == {name: [100.0] for name in DETECTION}
    assert point["some"]["auc_spurious"].tolist() == [100.0]
    assert point["some"]["auc_agree"][0] == pytest.approx(50.0, abs=4)
    assert point["some"]["auc_hallucinated"][0] == pytest.approx((50 + 0) / 2, abs=4)
    assert point["some"]["auc_stress"][0] == pytest.approx((75 + 50) / 2, abs=4)
    for name in DETECTION:
        assert point["moved"][name] == pytest.approx(point["some"][name], abs=2)
        assert drawn["all"][name] == pytest.approx(100.0)


@given(arrays(np.float16, st.integers(0, 40), elements=st.floats(-100, 100, width=16)))
def test_log_odds_are_kept_as_they_are(values):
    assert (unpack(pack(values), len(values)) == values).all()
    with pytest.raises(ValueError, match="log-odds of"):
        unpack(pack(values), len(values) + 1)


def test_every_claim_about_yes_or_no_has_a_twin_without_a_threshold():
    claims = [*paper_claims(), *own_claims()]
    twins = {claim: twin_of(claim) for claim in claims}
    assert all(twin is None for claim, twin in twins.items() if claim.measure.startswith("basic"))
    found = [claim for claim, twin in twins.items() if twin is not None]
    assert {claim.measure for claim in found} == TWINS.keys()
    for claim in found:
        assert (twins[claim].run, twins[claim].against, twins[claim].expects) == (
            claim.run,
            claim.against,
            claim.expects,
        )
        assert twins[claim].measure == TWINS[claim.measure]
        assert twins[claim].paper_difference is None


def test_a_twin_is_decided_by_what_the_model_tells_apart():
    runs = {AVEM: dict.fromkeys((0, 1, 2), ALL_TOLD), "base": dict.fromkeys((0, 1, 2), SPURIOUS_ONLY)}
    twins = {
        (found.claim.says, found.claim.measure): found
        for found in evaluate_record(record(runs)).twins
        if {found.claim.run, found.claim.against} == {AVEM, "base"}
    }
    improved = {measure: found.outcome for (says, measure), found in twins.items() if "improves on its base" in says}
    assert improved["auc_agree"] == improved["auc_hallucinated"] == "holds"
    assert improved["auc_spurious"] == "cannot tell"  # 100 both times: a difference of zero is not more


def test_parts_of_a_proof_are_joined(tmp_path):
    base = dict.fromkeys((0, 1), SPURIOUS_ONLY)
    settings = {"settings": {"beta": 3}}
    first = record({"base": base, AVEM: {0: ALL_TOLD}}, {**settings, "cost": {AVEM: {"0": {"seconds": 1}}}})
    second = record({"base": base, AVEM: {1: ALL_TOLD}}, {**settings, "cost": {AVEM: {"1": {"seconds": 2}}}})
    whole = record({"base": base, AVEM: {0: ALL_TOLD, 1: ALL_TOLD}})
    for name, part in (("a", first), ("b", second)):
        part.write(tmp_path / f"{name}.json")
    arguments = ["proof", "join", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--out", str(tmp_path / "c.json")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "The results of 4 runs are in" in " ".join(result.output.split())
    joined = Record.read(tmp_path / "c.json")
    assert {run: set(own) for run, own in joined.right.items()} == {"base": {0, 1}, AVEM: {0, 1}}
    assert joined.detected()[0][AVEM]["auc_agree"].tolist() == whole.detected()[0][AVEM]["auc_agree"].tolist()
    assert joined.about["cost"] == {AVEM: {"0": {"seconds": 1}, "1": {"seconds": 2}}}


def test_results_of_another_ground_are_not_joined():
    mine = record({"base": {0: SPURIOUS_ONLY}}, {"settings": {"beta": 3}})
    changed = Record(mine.clips, mine.questions, {"base": {0: ~mine.right["base"][0]}}, mine.odds, mine.about)
    with pytest.raises(DataError, match="different answers of their base, to"):
        mine.joined(changed)
    with_base = record({"base": {0: SPURIOUS_ONLY}, AVEM: {0: SPURIOUS_ONLY}}, {"settings": {"beta": 3}})
    right, odds = ({"base": {3: own["base"][0]}, AVEM: {1: own[AVEM][0]}} for own in (with_base.right, with_base.odds))
    own_bits = with_base.right[AVEM][0]
    elsewhere = Record(with_base.clips, with_base.questions, right, odds, with_base.about)
    assert set(with_base.joined(elsewhere).right[AVEM]) == {0, 1}, "the base is one model, whatever its seed is called"
    again = Record(with_base.clips, with_base.questions, {**right, AVEM: {0: ~own_bits}}, odds, with_base.about)
    assert (with_base.joined(again).right[AVEM][0] == own_bits).all(), "a run that both have is the first one's"
    with pytest.raises(DataError, match="no base in common"):
        mine.joined(record({AVEM: {0: SPURIOUS_ONLY}}, {"settings": {"beta": 3}}))
    with pytest.raises(DataError, match="different settings"):
        mine.joined(record({"base": {0: SPURIOUS_ONLY}}, {"settings": {"beta": 1}}))
    fewer = Record(mine.clips[:-1], mine.questions, mine.right, mine.odds, mine.about)
    with pytest.raises(DataError, match="different questions"):
        mine.joined(fewer)


def test_variance_is_split_by_hand():
    def levels(*values):
        own = ("basic", "agree", "stress", "spurious", "hallucinated", "auc_spurious", "auc_hallucinated", "auc_agree")
        return {seed: dict.fromkeys(own, value) for seed, value in enumerate(values)}

    runs = {
        AVEM: levels(50.0, 54.0),  # variance 8
        f"{AVEM}, base 1": levels(60.0, 60.0),  # variance 0: pooled 4
        "order of seed 1": levels(52.0),
        "order of seed 2": levels(54.0),
        "order of seed 3": levels(52.0),
        "order of seed 0": {1: levels(50.0)[0], 2: levels(51.0)[0]},
    }
    found = split(runs, dict.fromkeys(levels(0)[0], 2.25))["stress"]
    assert found["seed"] == pytest.approx(2.0)
    assert found["base"] == pytest.approx((32 - 2) ** 0.5)  # of the means 52 and 60, less the mean of 8 / 2 and 0
    assert found["order"] == pytest.approx((8 / 3) ** 0.5)  # of 50, 52, 54, 52
    assert found["draws"] == pytest.approx((1 / 3) ** 0.5)  # of 50, 50, 51
    assert found["clips"] == 1.5


def test_the_power_is_that_of_simulated_seeds():
    rng = np.random.default_rng(0)
    effect, seed_sd, clip_sd, seeds = 8.0, 6.0, 1.5, 4
    differences = effect + seed_sd * rng.standard_normal((20_000, seeds)) + clip_sd * rng.standard_normal((20_000, 1))
    means, variances = differences.mean(axis=1), differences.var(axis=1, ddof=1) / seeds + clip_sd**2
    found = (np.abs(means) > 3.182 * np.sqrt(variances)).mean()  # Student's t of three degrees of freedom
    assert power(effect, seed_sd**2, clip_sd**2, seeds) == pytest.approx(found, abs=0.05)
    assert power(0.0, 4.0, 1.0, 5) == pytest.approx(0.05)
    assert seeds_needed(0.0, 0.0) == 2
    assert seeds_needed(1e6, 0.0) is None


def test_rows_of_every_form_ask_the_same_questions():
    scenes = draw_splits({"preference": Split(20, 4)}, 0)
    verdicts = 0
    for scene in scenes:
        made = {form: {row.row_id: row for row in preferences(scene, form)} for form in FORMS}
        assert made[REASONS].keys() == made[VERDICTS].keys()
        for name, row in made[REASONS].items():
            bare = made[VERDICTS][name]
            assert row.question == bare.question
            if not row.task.startswith("reasoning_stress"):
                assert row == bare
                continue
            verdicts += 1
            assert bare.chosen == f"{row.chosen.split(',')[0]}."
            assert {bare.rejected_video_relevant, bare.rejected_emotion_relevant} == ({"Yes.", "No."} - {bare.chosen})
        both = [row for row in made["both"].values() if not row.row_id.endswith("-verdict")]
        assert both == list(made[REASONS].values())
        extra = [row for row in made["both"].values() if row.row_id.endswith("-verdict")]
        assert [row.chosen for row in extra] == [
            row.chosen for row in made[VERDICTS].values() if row.task.startswith("reasoning_stress")
        ]
    assert verdicts > 100


@pytest.mark.parametrize(
    ("expects", "difference", "clip_variance", "needed"),
    [
        ("more", 5.0, 0.0, "8"),  # seeds differ by 4: power 0.8 of 5 points at n = 8
        ("less", -5.0, 0.0, "8"),
        ("no more", -2.0, 0.0, "8"),  # 5 points below the 3 that count as no more
        ("same", 8.0, 0.0, "8"),  # 5 points beyond them
        ("more", 5.0, 4.0, MORE_CLIPS),  # 2.8 standard deviations of 2 points are more than 5
        ("more", 2.0, 0.25, MORE_SEEDS),
        ("more", 0.0, 0.0, MORE_CLIPS),
    ],
)
def test_what_would_decide_an_open_claim(expects, difference, clip_variance, needed):
    claim = Claim("Table 5", "it helps", "stress", AVEM, "w/o PMP", expects=expects)
    by_seed = (difference - 4, difference, difference + 4)
    half = 4.302653 * (16 / 3 + clip_variance) ** 0.5
    found = Verdict(claim, 50.0, 50.0, difference, difference - half, difference + half, by_seed, OPEN)
    assert needed_to_decide(found) == needed
    assert needed_to_decide(replace(found, outcome=HOLDS)) == ""
    assert needed_to_decide(replace(found, low=None, high=None, by_seed=(difference,))) == ""
    if needed == "8":
        assert power(5.0, 16.0, 0.0, 7) < 0.8 <= power(5.0, 16.0, 0.0, 8)


def test_open_claims_are_counted_by_what_they_need():
    claim = Claim("Table 5", "it helps", "stress", AVEM, "w/o PMP")
    found = [
        Verdict(claim, 50.0, 50.0, 5.0, -4.9, 14.9, (1.0, 5.0, 9.0), OPEN),
        Verdict(claim, 50.0, 50.0, 5.0, 1.0, 9.0, (4.0, 5.0, 6.0), HOLDS),
        Verdict(replace(claim, source="Table 18"), 50.0, 50.0, 0.5, -9.0, 10.0, (-3.5, 0.5, 4.5), OPEN),
        Verdict(replace(claim, source=OWN), 50.0, 50.0, 5.0, -4.9, 14.9, (1.0, 5.0, 9.0), OPEN),
    ]
    assert open_claims(found).rows == (
        ("Table 5", "1", "0", "0", "0", "0"),
        ("Table 18", "0", "0", "0", "1", "0"),
        ("together", "1", "0", "0", "1", "0"),
    )


def test_every_curve_of_bases_passes_through_the_usual_one():
    curves = {point.curve for point in CURVES if point.base != USUAL}
    assert len(curves) == 2
    assert all(sum(point.curve == curve and point.base == USUAL for point in CURVES) == 1 for curve in curves)
