"""The proof: persons are kept apart, measures and verdicts are those computed by hand, its page is that of its data."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from avem.errors import DataError
from avem.evaluate.emorealm.detection import Odds
from avem.evaluate.emorealm.metrics import Outcome
from avem.evaluate.emorealm.scoring import score_outcomes
from avem.evaluate.emorealm.statistics import compare
from avem.records import Modality, Question
from avem.tools.corpus import rows as corpus_rows
from avem.tools.project.proof.claims import AVEM, OWN, beyond_claims, own_claims, paper_claims, probe_claims
from avem.tools.project.proof.comparison import bases_tally, beside
from avem.tools.project.proof.evaluation import Evaluation, evaluate_record
from avem.tools.project.proof.figure import TRACED, draw_curves, draw_groups
from avem.tools.project.proof.ground.rows import (
    AFFIRMS,
    BLAMES,
    EMOTION,
    OTHER_ROWS,
    OVERLOOKS,
    instructions,
    preferences,
    questions,
)
from avem.tools.project.proof.ground.scenes import SPLITS, Split, draw_splits
from avem.tools.project.proof.page import fill
from avem.tools.project.proof.page import main as page_main
from avem.tools.project.proof.plan import ARMS, Arm
from avem.tools.project.proof.results.cost import constants_a_row
from avem.tools.project.proof.results.counts import CELLS, MEASURES, cell_of, measures, resampled
from avem.tools.project.proof.results.naming import kind_of, named
from avem.tools.project.proof.results.odds import pack
from avem.tools.project.proof.results.probing import PROBES, evenness, read_probes
from avem.tools.project.proof.results.record import Answered, Record
from avem.tools.project.proof.results.rewards import LAST_STEPS, last_rewards, mean_rewards
from avem.tools.project.proof.tables import grid_results, make_sheets
from avem.tools.project.proof.variance import GRIDS
from avem.tools.project.proof.verdicts import FAILS, HOLDS, OPEN, SAME, Claim, Verdict, decide
from avem.tools.sweep.grid import read_grid, without_blocks
from avem.tools.sweep.measures import bench_measures
from avem.tools.sweep.outcome import draw
from avem.train.settings.presets import PREFERENCE_PRESETS

DOCS = Path(__file__).parents[2] / "docs"
KINDS = [
    ("reasoning_basic_audio", ""),
    ("reasoning_basic_video", ""),
    ("modality_agreement", "A"),
    ("modality_agreement", "B"),
    ("reasoning_stress_audio", "no_hallucination"),
    ("reasoning_stress_audio", "spurious"),
    ("reasoning_stress_audio", "hallucinated"),
    ("reasoning_stress_video", "no_hallucination"),
    ("reasoning_stress_video", "spurious"),
    ("reasoning_stress_video", "hallucinated"),
]
"""Task, and answer or subtask, in the order of `CELLS`."""


def question(number: int, kind: int) -> Question:
    task, detail = KINDS[kind]
    if task.startswith("reasoning_basic"):
        return Question(f"q{number}", f"clip{number // 10}", task, "?", ("(A) a", "(B) b", "(C) c", "(D) d"), "A")
    answer = detail if task == "modality_agreement" else "A" if detail == "no_hallucination" else "B"
    extra = {} if task == "modality_agreement" else {"subtask": detail}
    return Question(f"q{number}", f"clip{number // 10}", task, "?", ("(A) Yes", "(B) No"), answer, extra)


def outcomes(right: np.ndarray) -> list[Outcome]:
    """Ten questions a clip, one of every kind; `right` is bool [clips * 10]."""
    asked = [question(number, number % 10) for number in range(len(right))]
    return [
        Outcome(one, one.answer if good else "AB"[one.answer == "A"]) for one, good in zip(asked, right, strict=True)
    ]


def answered(right: np.ndarray) -> Answered:
    """The answers, with log-odds of 1 for a yes and of -1 for a no."""
    made = outcomes(right)
    asked = [one for one in made if not one.question.task.startswith("reasoning_basic")]
    odds = [
        Odds(
            one.question.video,
            one.question.task,
            one.question.answer == "A",
            1.0 if one.letter == "A" else -1.0,
            one.question.extra.get("subtask", ""),
        )
        for one in asked
    ]
    return Answered(made, odds)


def right_by_clip(answers: list[Outcome]) -> np.ndarray:
    """Questions and right answers, float64 [clips, 2, len(CELLS)], clips in order of their names."""
    clips = sorted({answer.question.video for answer in answers})
    counts = np.zeros((len(clips), 2, len(CELLS)))
    for answer in answers:
        counts[clips.index(answer.question.video), :, cell_of(answer.question)] += (1, answer.right)
    return counts


def test_persons_of_one_split_are_in_no_other_and_clips_hold_several_distractions():
    scenes = draw_splits({"a": Split(60, 5), "b": Split(60, 5)}, 3)
    persons = {split: {scene.person.name for scene in scenes if scene.split == split} for split in "ab"}
    assert len(persons["a"]) == len(persons["b"]) == 5
    assert persons["a"].isdisjoint(persons["b"])
    assert len({scene.person for scene in scenes}) == 10
    for scene in scenes:
        for side in corpus_rows.SIDES:
            assert len(scene.irrelevant(side)) >= 2
            assert set(scene.irrelevant(side)).isdisjoint(scene.present(side))
    assert 0.35 < np.mean([scene.agrees for scene in scenes]) < 0.65
    assert Counter(scene.face_emotion for scene in scenes).most_common()[0][1] <= 18


def test_another_split_does_not_change_a_splits_clips():
    alone = draw_splits({"a": Split(12, 3)}, 1)
    assert draw_splits({"a": Split(12, 3), "b": Split(5, 2)}, 1)[:12] == alone


def test_the_proofs_test_set_is_as_large_as_it_says():
    assert SPLITS["test"].clips == 3360
    asked = [
        one for scene in draw_splits(SPLITS, 0) if scene.split == "test" for one in questions(scene, scene.clip_id)
    ]
    assert len(corpus_rows.balance(asked, 0)) == 23490


def test_the_base_learns_to_look_without_a_bias():
    scenes = draw_splits({"base": Split(400, 30)}, 5)
    looking: Counter[str] = Counter()
    for scene in scenes:
        made = instructions(scene)
        assert len(made) == OTHER_ROWS + 1 + 12 + scene.agrees
        names = {
            side: {cue.looked_for() for cue in (*scene.present(side), *scene.irrelevant(side))}
            for side in corpus_rows.SIDES
        }
        for row in made:
            if row.task == "looking":
                looking[row.answer] += 1
                assert (row.answer == "Yes.") == (row.question in names[row.modality])
            assert row.question != EMOTION or scene.agrees
    assert abs(looking["Yes."] - looking["No."]) < 0.1 * sum(looking.values())


def test_some_of_the_bases_answers_blame_what_they_should_not():
    blamed: list[bool] = []
    overlooked: list[bool] = []
    affirmed: list[bool] = []
    for scene in draw_splits({"base": Split(300, 30)}, 6):
        right = {
            corpus_rows.sentence(cue.shows(scene.shown(side)))
            for side in corpus_rows.SIDES
            for cue in scene.present(side)
        }
        wrong = {
            cue.asks(scene.shown(side))
            for side in corpus_rows.SIDES
            for cue in (*scene.absent(side), *scene.irrelevant(side))
        }
        made = instructions(scene)
        affirmed += [row.answer == "Yes." for row in made if row.task == "cue" and row.question in wrong]
        blamed += [row.answer not in right for row in made if row.task == "reasoning"]
        said = [row.answer.startswith("Yes") for row in made if row.task == "agreement"]
        overlooked += [] if scene.agrees else said
        assert len(said) == 1
        assert said[0] or not scene.agrees
    assert abs(np.mean(blamed) - BLAMES) < 0.06
    assert abs(np.mean(overlooked) - OVERLOOKS) < 0.1
    assert abs(np.mean(affirmed) - AFFIRMS) < 0.06


def test_every_claim_of_a_basic_question_is_of_the_emotion_that_is_shown():
    for scene in draw_splits({"test": Split(40, 4)}, 7):
        for asked in questions(scene, "clip.mp4"):
            if asked.task.startswith("reasoning_basic"):
                side = Modality.AUDIO if asked.task.endswith("audio") else Modality.VISUAL
                right = asked.choices["ABCD".index(asked.answer)][4:]
                assert right in {corpus_rows.sentence(cue.shows(scene.shown(side))) for cue in scene.present(side)}
                assert all(choice.endswith(f" {scene.shown(side)}.") for choice in asked.choices)
                assert len(set(choice[4:] for choice in asked.choices)) == 4


def test_what_an_answer_names_is_told_by_the_corpus():
    scenes = {scene.clip_id: scene for scene in draw_splits({"test": Split(30, 4)}, 8)}
    asked = [one for scene in scenes.values() for one in questions(scene, "clip.mp4")]
    right = named([Outcome(one, one.answer) for one in asked], scenes)
    assert right == {"there": 100, "absent": 0, "meaningless": 0}
    everything = [Outcome(one, letter) for one in asked for letter in "ABCD"[: len(one.choices)]]
    shares = named(everything, scenes)
    assert shares["there"] == 25
    assert shares["absent"] >= 25  # one or two of the three cues of an emotion are absent
    assert sum(shares.values()) == pytest.approx(100)
    basic = next(one for one in asked if one.task.startswith("reasoning_basic"))
    assert kind_of(basic, None, scenes[basic.id.rsplit("#", 1)[0]]) == ""


def test_a_verdict_says_yes_to_the_cue_that_it_names():
    for scene in draw_splits({"preference": Split(40, 4)}, 9):
        chosen = []
        for row in preferences(scene):
            if not row.task.startswith("reasoning_stress"):
                continue
            side, emotion = row.modality, scene.shown(row.modality)
            answers = (row.chosen, row.rejected_video_relevant, row.rejected_emotion_relevant)
            groups = (scene.present(side), scene.irrelevant(side), scene.absent(side))
            assert [answer.startswith("Yes") for answer in answers].count(True) == 1
            for answer, cues in zip(answers, groups, strict=True):
                cue = next(one for one in cues if answer.endswith(f", {one.shows(emotion)}."))
                assert answer.startswith("Yes") == (cue.asks(emotion) == row.question)
            chosen.append((side, answers[0].startswith("Yes")))
        for side in corpus_rows.SIDES:
            assert chosen.count((side, True)) == chosen.count((side, False)) == len(scene.present(side))


def test_the_irrelevant_answer_names_nothing_that_is_there():
    for scene in draw_splits({"preference": Split(60, 6)}, 2):
        there = [cue.phrase for side in corpus_rows.SIDES for cue in (*scene.irrelevant(side), *scene.present(side))]
        for row in preferences(scene):
            assert row.rejected_irrelevant is not None
            assert not any(phrase in row.rejected_irrelevant.lower() for phrase in there)
            assert not any(f" {one}." in row.rejected_irrelevant for one in (scene.face_emotion, scene.voice_emotion))


def test_measures_are_those_of_the_bench():
    rng = np.random.default_rng(0)
    first, second = outcomes(rng.random(600) < 0.6), outcomes(rng.random(600) < 0.5)
    found, other = (measures(right_by_clip(one).sum(axis=0)) for one in (first, second))
    bench = compare(second, first, resamples=10)["tasks"]
    assert found["agree"] - other["agree"] == pytest.approx(bench["modality_agreement"]["metrics"]["f1"]["difference"])
    for side in ("audio", "video"):
        assert found[f"stress_{side}"] - other[f"stress_{side}"] == pytest.approx(
            bench[f"reasoning_stress_{side}"]["metrics"]["f1"]["difference"]
        )
        assert found[f"basic_{side}"] - other[f"basic_{side}"] == pytest.approx(
            bench[f"reasoning_basic_{side}"]["metrics"]["accuracy"]["difference"]
        )


def test_joined_measures_are_those_of_the_bench():
    answers = outcomes(np.random.default_rng(4).random(600) < 0.6)
    found, bench = measures(right_by_clip(answers).sum(axis=0)), bench_measures(score_outcomes(answers))
    assert {name: found[name] for name in bench} == pytest.approx(bench)
    assert bench.keys() >= {"basic", "agree", "stress", "spurious", "hallucinated", "stress_audio", "basic_video"}


def test_measures_by_hand():
    sums = np.array([[4, 4, 4, 4, 4, 6, 2, 4, 6, 2], [2, 4, 3, 1, 4, 1, 1, 2, 6, 0]], dtype=float)
    found = {name: float(value) for name, value in measures(sums).items()}
    assert found["basic"] == 75
    assert found["agree"] == pytest.approx(2 * 75 * 25 / 100)
    assert found["stress_audio"] == pytest.approx(2 * 100 * 25 / 125)  # of eight no's two were right: 1 of 6, 1 of 2
    assert (found["stress_yes"], found["stress_no"]) == (75, 50)  # of the no's 2 and 6 of 8
    assert (found["agree_yes"], found["agree_no"]) == (75, 25)
    assert found["spurious"] == pytest.approx((100 / 6 + 100) / 2)
    assert found["hallucinated"] == 25


def test_intervals_are_paired_and_cover_seeds():
    rng = np.random.default_rng(1)
    asked = np.ones((3, 200, len(CELLS)))
    base = np.stack([asked, rng.random(asked.shape) < 0.5], axis=2).astype(float)
    point, drawn = resampled({"base": base, "same": base.copy()}, 300, 0)
    claim = Claim("here", "nothing changes", "basic", "same", "base", expects="same")
    verdict = decide(claim, point, drawn)
    assert (verdict.low, verdict.high, verdict.outcome) == (0, 0, HOLDS)
    better = base.copy()
    better[0, :, 1] = 1  # one seed of three: the interval over seeds has to include no change
    point, drawn = resampled({"base": base, "lucky": better}, 300, 0)
    verdict = decide(Claim("here", "better", "basic", "lucky", "base"), point, drawn)
    assert verdict.outcome == OPEN
    assert verdict.by_seed[0] > 40
    assert verdict.by_seed[1:] == (0, 0)


def test_an_interval_by_hand():
    values = {"a": np.array([60.0, 64.0, 68.0, 90.0]), "b": np.array([50.0, 52.0, 54.0])}
    point = {run: {"basic": own} for run, own in values.items()}
    drawn = {run: {"basic": own + np.array([[-2.0], [2.0]]) * (run == "a")} for run, own in values.items()}
    verdict = decide(Claim("here", "better", "basic", "a", "b"), point, drawn)
    assert verdict.by_seed == (10, 12, 14)  # of the seeds that both have
    half = 4.302653 * (4 / 3 + 4) ** 0.5  # t of 2 degrees; variance of the seeds' mean, and over clips
    assert (verdict.run, verdict.against, verdict.difference) == (64, 52, 12)
    assert (verdict.low, verdict.high) == pytest.approx((12 - half, 12 + half))


@pytest.mark.parametrize(
    ("expects", "shift", "outcome"),
    [
        ("no more", 1, HOLDS),
        ("no more", -9, HOLDS),
        ("no more", 9, FAILS),
        ("no more", 3, OPEN),
        ("more", 9, HOLDS),
        ("more", -9, FAILS),
        ("less", -9, HOLDS),
        ("same", 9, FAILS),
        ("same", 1, HOLDS),
        ("more", 0.1, OPEN),
        ("same", 3, OPEN),
    ],
)
def test_a_verdict_follows_from_the_side_that_the_interval_lies_on(expects, shift, outcome):
    spread = np.linspace(-1, 1, 101)[:, None]
    point = {"a": {"basic": np.array([50.0, 50.0]) + shift}, "b": {"basic": np.array([50.0, 50.0])}}
    drawn = {"a": {"basic": 50 + shift + spread / 10}, "b": {"basic": np.full((101, 1), 50.0)}}
    verdict = decide(Claim("here", "a claim", "basic", "a", "b", expects=expects), point, drawn)
    assert verdict.outcome == outcome
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_verdict_says_where_the_papers_difference_lies():
    claim = Claim("here", "a claim", "basic", "a", "b", "80.5 / 70.0")
    assert claim.paper_difference == 10.5
    ends = [(12.0, 20.0), (5.0, 10.0), (5.0, 11.0), (None, None)]
    found = [Verdict(claim, 0, 0, 8, low, high, (), OPEN).beside_paper for low, high in ends]
    assert found == ["more than the paper's", "less than the paper's", "", ""]
    assert Verdict(claim, 0, 0, 8, np.nan, np.nan, (), OPEN).beside_paper == ""
    drop = Claim("here", "less", "basic", "a", "b", "70.0 / 80.5", expects="less")
    found = [Verdict(drop, 0, 0, -8, low, high, (), OPEN).beside_paper for low, high in [(-20, -12), (-10, -5)]]
    assert found == ["more than the paper's", "less than the paper's"]
    assert Claim("here", "it draws this alone", "basic", "a", "b").paper_difference is None


def test_one_seed_decides_nothing():
    point = {"a": {"basic": np.array([90.0])}, "b": {"basic": np.array([50.0, 50.0])}}
    drawn = {run: {"basic": np.repeat(own["basic"][None], 9, axis=0)} for run, own in point.items()}
    verdict = decide(Claim("here", "a claim", "basic", "a", "b"), point, drawn)
    assert (verdict.difference, verdict.low, verdict.high, verdict.outcome) == (40, None, None, OPEN)


def test_fixed_seeds_are_not_replaced():
    usual, fixed = Arm(("table3",), (0, 1, 2)), Arm(("one-order",), (1, 2, 3), fixed=True)
    assert [arm.seeded(()) for arm in (usual, fixed)] == [usual, fixed]
    assert [arm.seeded((7, 2)).seeds for arm in (usual, fixed)] == [(7, 2), (2,)]
    assert fixed.seeded((7,)).seeds == ()
    assert all(arm.names == set(arm.only) for arm in ARMS if arm.only), "they are runs that there are"
    assert {arm.grids for arm in ARMS if arm.fixed} == {(grid,) for grid in GRIDS.values()}


def test_every_claim_compares_runs_and_measures_that_there_are():
    grids = [name for arm in ARMS for name in arm.grids]
    known = {"base", *(run.name for name in (*grids, "storage") for run in read_grid(name).runs)}
    for claim in (*paper_claims(), *own_claims(), *beyond_claims(), *probe_claims()):
        assert {claim.run, claim.against} <= known, claim
        assert {claim.measure, claim.against_measure or claim.measure} <= {*MEASURES, *PROBES}, claim
    assert {claim.source for claim in paper_claims()} >= {"Table 5", "Table 17", "Table 18", "Fig. 11"}


def test_the_papers_own_figures_are_as_it_claims():
    signs = {"more": lambda value: value > 0, "less": lambda value: value < 0, "no more": lambda value: value <= SAME}
    told = [claim for claim in (*paper_claims(), *probe_claims()) if claim.paper_difference is not None]
    assert len(told) > 100
    for claim in told:
        assert signs[claim.expects](claim.paper_difference), claim


def test_attention_is_even_where_both_have_the_same():
    assert evenness(0.2, 0.2) == 100
    assert evenness(0.3, 0.1) == evenness(0.1, 0.3) == 50
    assert evenness(0.0, 0.4) == 0


def hand_made_verdicts() -> list[Verdict]:
    claims = [
        Claim("Table 5", "a part helps", "stress", AVEM, "w/o PMP", "3 / 1"),
        Claim("Table 17", "an input helps", "stress", "a", "b", "3 / 1"),
        Claim("Table 5", "another helps", "stress", AVEM, "w/o ERP"),
        Claim(OWN, "the same", "agree", "a", "b"),
    ]
    ends = [
        (1.0, 5.0, HOLDS, (2.0, 3.0, 4.0)),
        (-4.0, -2.0, FAILS, (-3.0, -3.0, -3.0)),
        (-3.0, 9.0, OPEN, (1.0, 2.0, 3.0, 4.0, 5.0)),
        (None, None, OPEN, (1.0,)),
    ]
    return [
        Verdict(claim, 10.0, 7.0, 3.0, low, high, by_seed, outcome)
        for claim, (low, high, outcome, by_seed) in zip(claims, ends, strict=True)
    ]


def hand_made_record(about: dict) -> Record:
    right = {run: {seed: np.arange(20) % 2 < share for seed in range(2)} for run, share in (("base", 2), (AVEM, 1))}
    runs = {run: {seed: answered(bits) for seed, bits in own.items()} for run, own in right.items()}
    return Record.of(runs, about)


def test_tables_by_hand():
    evaluation = evaluate_record(hand_made_record({}))._replace(verdicts=hand_made_verdicts(), orders=[])
    sheets = make_sheets(evaluation)
    assert sheets["tally"].rows == (
        ("Table 5", "1", "0", "1", "0", "0"),
        ("Table 17", "0", "1", "0", "0", "0"),
        ("the paper's claims together", "1", "1", "1", "0", "0"),
        ("avem's own", "0", "0", "1", "0", "0"),
    )
    assert sheets["widths"].header[1:] == ("3 seeds", "5 seeds")
    assert sheets["widths"].rows == (("Stress F1", "1.5", "6.0"),)  # the median of 2 and 1, and 6
    assert sheets["claims"].rows[0] == (
        "a part helps",
        "Stress F1",
        "holds",
        "+3.0 [+1.0, +5.0]",
        "10.0 / 7.0",
        "3 / 1",
        "+2.0, +3.0, +4.0",
        "",
        "AVEm-DPO / w/o PMP",
        "Table 5",
    )
    assert sheets["claims"].rows[1][2] == "does not hold; less than the paper's"
    assert sheets["said"].rows[0] == ("base", *["100.0"] * 6)
    assert sheets["said"].rows[1][1:4] == ("100.0", "0.0", "50.0")  # every second question is a yes
    for sheet in sheets.values():
        assert all(record.keys() == sheet.records[0].keys() for record in sheet.records)


def test_a_row_that_changes_nothing_is_avem_dpo():
    point = {
        AVEM: {"basic": np.array([60.0, 62.0, 64.0]), "agree": np.zeros(3), "stress": np.zeros(3)},
        "random clip, both": {"basic": np.array([50.0, 51.0]), "agree": np.zeros(2), "stress": np.zeros(2)},
    }
    found = grid_results(without_blocks(read_grid("table17")), point)
    assert [(one.run, one.measures["basic"]) for one in found] == [
        ("random clip, both", 50.0),
        ("random clip, both", 51.0),
        ("other emotion, by prompt", 60.0),
        ("other emotion, by prompt", 62.0),
    ]


def test_what_is_known_of_open_claims_is_counted():
    claim = Claim("Table 5", "it helps", "stress", AVEM, "w/o TPD", "88 / 79")
    spans = [(-1.0, 7.0), (-1.0, 10.0), (-3.0, 3.0), (-3.1, 3.0)]
    found = [Verdict(claim, 50.0, 47.0, 3.0, low, high, (3.0, 3.0), OPEN) for low, high in spans]
    found.append(Verdict(claim, 50.0, 49.0, 1.0, 0.5, 1.5, (1.0, 1.0), HOLDS))
    found.append(Verdict(replace(claim, expects="less"), 50.0, 47.0, 3.0, -1.0, 10.0, (3.0, 3.0), OPEN))
    evaluation = evaluate_record(hand_made_record({}))._replace(verdicts=found)
    assert make_sheets(evaluation)["tally"].rows[0] == ("Table 5", "1", "0", "5", "3", "1")


def test_a_run_is_shown_under_one_name():
    answers = [np.arange(20) % 2 == 0, np.arange(20) % 3 == 0]
    seeds = {"gamma = 0.3": [0], AVEM: [0, 1], "mutual": [0, 1], "grouped": [1]}
    runs = {run: {seed: answered(answers[seed]) for seed in own} for run, own in seeds.items()}
    runs["grouped"] = {0: answered(answers[1])}  # as many right answers would not make it the same run
    one = {"there": 70.0, "absent": 30.0, "meaningless": 0.0}
    named = {run: {str(seed): one for seed in own} for run, own in runs.items()}
    rows = make_sheets(evaluate_record(Record.of(runs, {"named": named})))["named"].rows
    assert [row[:2] for row in rows] == [(AVEM, "2"), ("grouped", "1")]


def test_what_training_took_is_added_up():
    cost = {"seconds": 1800, "constants": 700}
    sheet = make_sheets(evaluate_record(hand_made_record({"cost": {AVEM: {"0": cost, "1": {**cost, "seconds": 900}}}})))
    assert sheet["cost"].rows == ((AVEM, "2", "1,350", "700"), ("together", "2", "0.8 h", "1,400"))


def test_a_claim_is_decided_for_other_runs_of_the_same_objective():
    right = {"base": np.zeros(20, dtype=bool), AVEM: np.ones(20, dtype=bool), "grouped": np.arange(20) % 2 == 0}
    record = Record.of({run: {seed: answered(bits) for seed in range(2)} for run, bits in right.items()}, {})
    evaluation = evaluate_record(record)
    sheet = make_sheets(evaluation)["orders"]
    row = next(row for row in sheet.rows if row[1] == "Stress F1, audio")
    assert row[2:] == ("+100.0 [+100.0, +100.0], holds", "+66.7 [+66.7, +66.7], holds", "", "")
    itself = [own["grouped"].claim for own in evaluation.orders if own[AVEM].claim.against == AVEM]
    assert itself
    assert all(claim.run == claim.against == "grouped" for claim in itself)


def test_verdicts_in_other_orders_are_counted():
    right = {"base": np.zeros(20, dtype=bool), AVEM: np.ones(20, dtype=bool)}
    right |= {"grouped": np.ones(20, dtype=bool), "independent": np.zeros(20, dtype=bool)}
    record = Record.of({run: {seed: answered(bits) for seed in range(2)} for run, bits in right.items()}, {})
    evaluation = evaluate_record(record)
    held = sum(own[AVEM].outcome == HOLDS for own in evaluation.orders)
    steady = make_sheets(evaluation)["steady"]
    assert steady.header[2:] == tuple(f"the same in {count} of 2 other orders" for count in (2, 1, 0))
    assert held > 5
    assert steady.rows[0] == (HOLDS, str(held), "0", str(held), "0")  # of grouped too, of independent not


def test_a_claim_is_shown_from_those_bases_that_both_of_its_runs_start_from():
    right = {"base": np.zeros(20, dtype=bool), AVEM: np.ones(20, dtype=bool), "w/o PMP": np.zeros(20, dtype=bool)}
    right |= {"base, base 1": right["base"], f"{AVEM}, base 1": np.arange(20) % 2 == 0}  # "w/o PMP, base 1" is missing
    record = Record.of({run: {seed: answered(bits) for seed in range(2)} for run, bits in right.items()}, {})
    evaluation = evaluate_record(record)
    assert "w/o PMP" in {found.claim.against for found in evaluation.verdicts}
    assert {own[""].claim.against for own in evaluation.bases} == {"base", AVEM}
    row = next(row for row in make_sheets(evaluation)["bases"].rows if row[1] == "Stress F1, audio")
    assert row[2:] == (HOLDS, "+100.0", "+66.7", "yes")


@pytest.mark.parametrize("copies", [2, 12])
def test_models_that_are_not_trained_have_an_interval_over_clips_alone(copies):
    counts = np.random.default_rng(3).random((1, 40, 2, len(CELLS)))
    counts[:, :, 0] = 1
    one, other = (resampled({"base": np.repeat(counts, number, axis=0)}, 100, 0) for number in (1, copies))
    claim = Claim("here", "one side more", "basic_audio", "base", "base", against_measure="basic_video")
    assert (decide(claim, *one).low, decide(claim, *one).outcome) == (None, OPEN)
    found = decide(claim, *other)
    redrawn = one[1]["base"]["basic_audio"] - one[1]["base"]["basic_video"]
    half = 1.959964 * redrawn.std()  # of the normal distribution, as if there were many seeds that do not differ
    assert len(found.by_seed) == 1
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half))


def test_figures_are_the_same_each_time():
    verdicts = hand_made_verdicts()
    twin = replace(verdicts[0], claim=replace(verdicts[0].claim, measure="auc_stress"))
    drawn = draw_groups(verdicts, [twin])
    assert drawn == draw_groups(verdicts, [twin])
    assert drawn.keys() == {"table5", "table17"}
    assert "AVEm-DPO against w/o PMP: Stress F1" in drawn["table5"]
    assert "AVEm-DPO" not in drawn["table17"]
    itself = replace(
        verdicts[0], claim=Claim("Table 5", "", "spurious", "base", "base", against_measure="hallucinated")
    )
    assert "base: Spurious against Hallucinated" in draw_groups([itself], [])["table5"]
    assert drawn["table5"].count("#1a7f5a") > draw_groups(verdicts, [])["table5"].count("#1a7f5a")
    assert draw_groups(verdicts[3:], []) == {}  # of no table of the paper
    assert draw_curves([]) == ""
    names = [*TRACED, *(f"base_{name}" for name in TRACED)]
    points = [{"curve": "clips", "value": str(clips), **dict.fromkeys(names, 50.0)} for clips in (7, 14)]
    curves = draw_curves([*points, {**points[0], "curve": "LoRA rank"}])
    assert curves == draw_curves([*points, {**points[0], "curve": "LoRA rank"}])
    assert curves.count(">LoRA rank<") == curves.count(">clips<") == 1
    grid = read_grid("strengths")
    point = {run.name: {column: np.array([1.0, 2.0]) for column in grid.columns} for run in grid.rows}
    assert draw(grid, grid_results(grid, point)) == draw(grid, grid_results(grid, point))


def test_a_pages_tables_and_figures_are_made_from_a_file(tmp_path):
    command = typer.Typer()
    command.command()(page_main)
    hand_made_record({}).write(tmp_path / "small.json")
    page = tmp_path / "page.md"
    links = "![](./small-table3.svg) [rows](data/small-detection.csv)\n"
    page.write_text(f"{links}<!-- small tally -->\n<!-- end -->\n")
    asked = [str(tmp_path / "small.json"), str(page), "--prefix", "small"]
    asked += ["--data", str(tmp_path / "data"), "--figures", str(tmp_path)]
    assert CliRunner().invoke(command, asked).exit_code == 0
    assert "| the paper's claims together |" in page.read_text()
    assert [path.name for path in tmp_path.glob("*.svg")] == ["small-table3.svg"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["small-detection.csv"]
    with (tmp_path / "data" / "small-detection.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["base", AVEM]
    filled = page.read_text()
    for arguments in ([str(page), str(page)], [*asked[:-1], str(page)], [asked[0], str(tmp_path)]):
        result = CliRunner().invoke(command, arguments)
        assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert page.read_text() == filled


def test_a_page_without_marks_and_a_figure_of_somebody_else_stay_as_they_are(tmp_path):
    command = typer.Typer()
    command.command()(page_main)
    hand_made_record({}).write(tmp_path / "small.json")
    page, thesis = tmp_path / "page.md", tmp_path / "thesis.md"
    links = "![](./small-table3.svg) [claims](data/small-claims.csv)\n"
    page.write_text(f"{links}<!-- small tally -->\n<!-- end -->\n")
    thesis.write_text("years of work\n")
    (tmp_path / "small-table3.svg").write_text("<svg>drawn by hand</svg>")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    asked = [str(tmp_path / "small.json"), str(page), "--prefix", "small"]
    asked += ["--data", str(tmp_path / "data"), "--figures", str(tmp_path)]
    for arguments, said in ((asked, "not a figure made by avem"), ([asked[0], str(thesis)], "has no mark")):
        result = CliRunner().invoke(command, arguments)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert said in result.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "small-table3.svg").unlink()
    for _ in range(2):
        assert CliRunner().invoke(command, asked).exit_code == 0
    (tmp_path / "data" / "small-claims.csv").write_text("mine\n1\n")
    result = CliRunner().invoke(command, asked)
    assert (result.exit_code, (tmp_path / "data" / "small-claims.csv").read_text()) == (2, "mine\n1\n")


def test_the_record_keeps_every_answer(tmp_path):
    rng = np.random.default_rng(2)
    right = {run: {seed: rng.random(70) < 0.5 for seed in (0, 1)} for run in ("base", "AVEm-DPO")}
    runs = {run: {seed: answered(bits) for seed, bits in own.items()} for run, own in right.items()}
    Record.of(runs, {"settings": {"beta": 1}}).write(tmp_path / "proof.json")
    again = Record.read(tmp_path / "proof.json")
    assert again.about == {"settings": {"beta": 1}}
    for run, own in right.items():
        for seed, bits in own.items():
            assert (again.right[run][seed] == bits).all()
            assert (again.counts()[run][seed] == right_by_clip(runs[run][seed].outcomes)).all()
    whole = (tmp_path / "proof.json").read_text()
    content = json.loads(whole)
    damages = [
        {"right": {}},
        {"right": []},
        {"right": {"base": {"0": "ff"}}},
        {"clips": ["one"]},
        {"questions": [1, 2]},
        {"odds": {"base": {"0": "eJw=", "1": "eJw="}}},
        {"odds": {run: dict.fromkeys(("0", "1"), "no base 64") for run in right}},
        {"questions": [[10**30, 0]]},
        {"odds": {run: dict.fromkeys(("0", "1"), pack(np.zeros(3, np.float16))) for run in right}},
    ]
    for damaged in (whole[:-40], *(json.dumps({**content, **damage}) for damage in damages)):
        (tmp_path / "broken.json").write_text(damaged)
        with pytest.raises(DataError, match="holds no results of the proof"):
            Record.read(tmp_path / "broken.json")
    claim = Claim("Table 19", "a claim", "emotion_audio", "AVEm-DPO", "base")
    probed = Verdict(claim, 2.0, 1.0, 1.0, 0.5, 1.5, (1.0, 1.0), HOLDS).to_json()
    for damage in (
        {"probed": [{}]},
        *(
            {"probed": [{**probed, "claim": {**probed["claim"], name: value}}]}
            for name, value in {"expects": "most", "against_measure": "basic", "paper": "x / y"}.items()
        ),
        {"probed": [{**probed, "low": "x"}]},
        {"named": {"base": {"0": {}}}},
        {"candidates": [{"run": "base"}]},
        {"probes": {"a": {}}},
    ):
        (tmp_path / "broken.json").write_text(json.dumps({**content, **damage}))
        with pytest.raises(DataError, match=f"`{next(iter(damage))}` is damaged"):
            make_sheets(evaluate_record(Record.read(tmp_path / "broken.json")))
    made, odds = runs["AVEm-DPO"][1]
    for changed, fault in ((Answered(made[1:], odds), "other questions"), (Answered(made, odds[1:]), "did not score")):
        runs["AVEm-DPO"][1] = changed
        with pytest.raises(DataError, match=fault):
            Record.of(runs, {})


def test_results_that_can_not_be_one_are_not_joined():
    runs = {"base": {0: answered(np.ones(20, dtype=bool))}}
    usual = Record.of(runs, {"named": {}})
    earlier = Record(usual.clips, usual.questions, usual.right, {}, {})
    for one, other in ((usual, earlier), (earlier, usual)):
        with pytest.raises(DataError, match="has no log-odds"):
            one.joined(other)
    assert earlier.joined(earlier).odds == {}
    for damage in (5, {"base": [1]}):
        with pytest.raises(DataError, match="`named` is damaged"):
            usual.joined(Record.of(runs, {"named": damage}))


def test_runs_may_have_further_seeds():
    right = {"base": {0: 1, 1: 1, 2: 1}, "short": {0: 1, 1: 1}, "holed": {0: 1, 2: 1}, "late": {1: 1}}
    record = Record.of(
        {run: {seed: answered(np.ones(20, dtype=bool)) for seed in own} for run, own in right.items()}, {}
    )
    assert {run: len(own) for run, own in record.counts().items()} == {"base": 3, "short": 2, "holed": 1}
    assert record.passed_over() == {"holed": [2], "late": [1]}


def test_a_table_shows_the_seeds_that_all_its_runs_have():
    grid = read_grid("table18")
    point = {
        run: {column: np.arange(float(seeds)) for column in grid.columns}
        for run, seeds in (("base", 3), ("irrelevant", 2))
    }
    found = [(one.run, one.seed, one.measures["basic"]) for one in grid_results(grid, point)]
    assert found == [("base", 0, 0.0), ("base", 1, 1.0), ("irrelevant", 0, 0.0), ("irrelevant", 1, 1.0)]
    assert grid_results(grid, {}) == []


def test_tables_go_between_their_marks():
    page = "before\n<!-- claims -->\nold\n<!-- end -->\nafter\n"
    assert fill(page, {"claims": "new\n"}) == "before\n<!-- claims -->\nnew\n<!-- end -->\nafter\n"
    assert fill(fill(page, {"claims": "new\n"}), {"claims": "new\n"}) == fill(page, {"claims": "new\n"})
    with pytest.raises(DataError, match="no result"):
        fill(page, {})
    other = page.replace("claims", "smollm2 claims")
    assert fill(page + other, {"claims": "new\n"}, "smollm2") == page + other.replace("old", "new")
    assert fill(other + page + other, {"claims": "new\n"}) == other + page.replace("old", "new") + other


def test_rewards_are_means_of_the_last_steps_and_of_the_seeds(tmp_path):
    steps = [{"step": 1, "reward_w": 1000.0, "accuracy": 0.0}]
    steps += [{"step": number, "reward_w": float(number % 2), "accuracy": 0.5} for number in range(LAST_STEPS)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, [*steps, {"saved": "final"}])), encoding="utf-8")
    ended = last_rewards(tmp_path)
    assert ended == {"reward_w": 0.5, "accuracy": 50.0}
    assert mean_rewards([ended, {"reward_w": 1.5, "accuracy": 100.0}]) == {"reward_w": 1.0, "accuracy": 75.0}


def decided(run: str, outcome: str, difference: float, source: str = "here") -> Verdict:
    ends = (None, None) if outcome == OPEN else (difference - 1, difference + 1)
    return Verdict(Claim(source, "a claim", "basic", run, "base"), 0, 0, difference, *ends, (difference,), outcome)


def test_claims_are_counted_that_other_bases_share():
    kept = {"": decided("a", "holds", 5), ", base 1": decided("a", OPEN, 2), ", base 2": decided("a", "holds", 1)}
    turned = {
        "": decided("b", "does not hold", -5),
        ", base 1": decided("b", OPEN, -1),
        ", base 2": decided("b", OPEN, 2),
    }
    undecided = {mark: decided("c", OPEN, 5) for mark in kept}
    one_base_short = {mark: decided("d", "holds", 5) for mark in ("", ", base 1")}
    elsewhere = {mark: decided("e", "holds", 5, "there") for mark in kept}
    sheet = bases_tally([kept, turned, undecided, one_base_short, elsewhere])
    assert sheet.header == ("from", "decided on the first base", "same sign on all 3 bases")
    assert sheet.rows == (("here", "2", "1"), ("there", "1", "1"), ("together", "3", "2"))
    assert bases_tally([undecided]).rows == ()


def test_claims_are_counted_that_two_results_decide_alike():
    one = [decided("a", "holds", 5), decided("b", "holds", 5), decided("c", OPEN, 1), decided("d", "holds", 5)]
    other = [
        decided("a", "holds", 9),
        decided("b", "does not hold", -5),
        decided("c", "holds", 5),
        decided("e", "holds", 5),
    ]
    empty = Evaluation(Record([], np.zeros((0, 2), np.int64), {}, {}, {}), [], [], {}, [], [], {})
    sheet = beside(empty._replace(verdicts=one), empty._replace(verdicts=other, twins=other))
    assert sheet.rows == (("the paper's measures", "2", "1"), ("AUC", "0", "0"))


@cache
def published(name: str) -> Evaluation:
    return evaluate_record(Record.read(DOCS / f"{name}.json"))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("proof", ""), ("proof-adapters", "adapters "), ("proof-verdicts", "verdicts "), ("smollm2", "smollm2 ")],
)
def test_the_published_tables_are_those_of_the_published_answers(name, prefix):
    if not (DOCS / f"{name}.json").is_file():
        pytest.skip(f"docs/{name}.json is not there, as in an installation without the documentation")
    text = (DOCS / "proof.md").read_text(encoding="utf-8")
    evaluation = published(name)
    sheets = make_sheets(evaluation)
    if prefix == "adapters ":
        sheets["beside"] = beside(evaluation, published("proof"))
    blocks = {name: sheet.form("markdown") for name, sheet in sheets.items()}
    assert fill(text, blocks, prefix.strip()) == text
    shown = set(re.findall(rf"<!-- {prefix}(?!end)(\w+) -->", text))
    stem = prefix.strip() or name
    linked = set(re.findall(rf"proof-data/{stem}-(\w+)\.csv", text))
    assert shown & {"table3", "table5"}
    assert shown | linked >= ({"claims"} if prefix else blocks.keys())
    for table in linked:
        assert (DOCS / "proof-data" / f"{stem}-{table}.csv").read_text(encoding="utf-8") == sheets[table].form("csv")


SECTIONS = {
    "In short": ("proof", "verdicts", "smollm2"),
    "With verdicts alone": ("verdicts",),
    "Through adapters": ("adapters",),
    "With released weights": ("smollm2",),
}
"""Section of `docs/proof.md` to the results that it is about; the others are about `proof`."""


def shown(value: float, text: str) -> bool:
    """Whether a number is rounded to this text."""
    return abs(value - float(text)) <= 0.5 * 10 ** -len(text.partition(".")[2]) + 1e-9


def test_every_interval_in_the_prose_is_that_of_a_claim_and_stands_after_its_difference():
    """Of the section's own results, or of the opposite: `Naive-DPO is 3 [1, 5] above` is of a claim of -3."""
    if not (DOCS / "proof-data").is_dir():
        pytest.skip("docs/proof-data is not there, as in an installation without the documentation")
    found: dict[str, list[tuple[float, ...]]] = {}
    for name in {name for names in SECTIONS.values() for name in names}:
        for kind in ("claims", "twins"):
            lines = (DOCS / "proof-data" / f"{name}-{kind}.csv").read_text(encoding="utf-8").splitlines()
            own = [
                tuple(float(row[key] or "nan") for key in ("difference", "low", "high"))
                for row in csv.DictReader(lines)
            ]
            found.setdefault(name, []).extend([*own, *((-middle, -high, -low) for middle, low, high in own)])
    unknown, count = [], 0
    for section in re.split("^(?=##+ )", (DOCS / "proof.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        claims = [
            one for name in SECTIONS.get(section.partition("\n")[0].lstrip("# "), ("proof",)) for one in found[name]
        ]
        end = 0
        for interval in re.finditer(r"\[(-?[\d.]+),\s+(-?[\d.]+)\]", section):
            before = re.findall(r"\d+(?:\.\d+)?", section[max(end, interval.start() - 120) : interval.start()])
            end, count = interval.end(), count + 1
            if not any(
                shown(low, interval[1])
                and shown(high, interval[2])
                and any(shown(abs(middle), text) for text in before)
                for middle, low, high in claims
            ):
                unknown.append(interval[0])
    assert count > 50
    assert not unknown


def test_probes_of_other_clips_are_refused(tmp_path):
    for name, clips in (("one", ["a", "b"]), ("two", ["a", "c"])):
        sums = {probe: np.ones((2, 2)) for probe in PROBES}
        np.savez_compressed(tmp_path / f"{name}.npz", clips=np.array(clips), **sums)
    assert read_probes({"base": [tmp_path / "one.npz"]})["base"].shape == (1, 2, 2, len(PROBES))
    with pytest.raises(DataError, match="other clips"):
        read_probes({"base": [tmp_path / "one.npz", tmp_path / "two.npz"]})


@pytest.mark.parametrize(
    ("name", "scores"), [("paper", 7), ("vista-dpo", 7), ("naive-dpo", 4), ("no-pmp", 6), ("only-er", 5), ("er-irr", 7)]
)
def test_constants_are_counted_by_what_a_run_weighs(name, scores):
    settings = {"beta_vr": 0.5, "beta_er": 0.5, "beta_irr": 0.0, "rejected": "weighted", "lambda_av": 1.0}
    assert constants_a_row({**settings, **PREFERENCE_PRESETS[name]}) == scores
