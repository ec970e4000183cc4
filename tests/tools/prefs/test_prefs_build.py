"""The whole pipeline over the controlled corpus: what it makes is right, whole, balanced and accounted for."""

from __future__ import annotations

from collections import Counter

from avem.evaluate import emorealm
from avem.records import Modality
from avem.tools.prefs.checks.validate import validate
from avem.tools.project.standin.server import StandIn
from avem.train.data.rows import read_preferences
from tests.tools.prefs.conftest import CLIPS, json_lines


def test_preference_rows_are_right_sound_and_accounted_for(run, scenes, corpus):
    with StandIn(scenes) as standin:
        result = run(standin, balance=True)
    rows = read_preferences(result.out / "preferences.jsonl")
    assert len(rows) == result.rows > 20
    truth = {scene.clip_id: scene for scene in scenes}
    for row in rows:
        scene = truth[row.clip_id]
        if row.modality == Modality.AUDIOVISUAL:
            continue
        assert any(cue.phrase in row.chosen for cue in scene.present(row.modality))
        assert any(cue.phrase in row.rejected_video_relevant for cue in scene.irrelevant(row.modality))
        assert not any(cue.phrase in row.rejected_emotion_relevant for cue in scene.present(row.modality))
        assert str(scene.emotion) in row.rejected_emotion_relevant
    assert {row.task for row in rows} >= {"reasoning_basic_audio", "reasoning_basic_video", "description"}
    verdicts = Counter(row.chosen[:2] for row in rows if row.task == "modality_agreement")
    assert verdicts["Ye"] == verdicts["No"] > 0
    assert validate(result.out / "preferences.jsonl").errors == 0
    left_out = {entry["clip_id"] for entry in json_lines(result.out / "rejected.jsonl") if entry["level"] == "clip"}
    assert {row.clip_id for row in rows} | left_out == set(truth)
    assert result.ledger.clips["read"] == CLIPS


def test_preference_rows_are_neither_guessed_nor_balanced_out_by_default(run, scenes):
    with StandIn(scenes) as standin:
        result = run(standin, guess_models=())
        assert standin.steps["agreement"] > 0
        assert standin.steps["text_guess"] == 0
    counts = result.ledger.counts
    assert counts["modality_agreement"]["final"] == counts["modality_agreement"]["written"] > 0
    assert not any(row["guessed"] or row["balanced out"] for row in counts.values())
    assert not result.ledger.emptied


def test_the_benchmark_is_in_the_released_form_and_true(run, scenes):
    with StandIn(scenes) as standin:
        result = run(standin, kind="emorealm", split="test", guess_models=("guess-a", "guess-b", "guess-c"))
    questions = emorealm.read_questions(result.out / "emorealm_v1.json")
    assert len(questions) == result.rows > 0
    truth = {scene.clip_id: scene for scene in scenes}
    for question in questions:
        scene = truth[question.extra["clip_id"]]
        right = next(choice for choice in question.choices if choice[1] == question.answer)
        side = Modality.AUDIO if question.task.endswith("audio") else Modality.VISUAL
        there = any(cue.phrase in question.question for cue in scene.present(side))
        if question.task.startswith("reasoning_basic"):
            assert any(cue.phrase in right for cue in scene.present(side))
        elif question.task == "modality_agreement":
            assert (right == "(A) Yes") == scene.agrees
        else:
            assert (right == "(A) Yes") == there == (question.extra["subtask"] == "no_hallucination")
    for task in {question.task for question in questions} - {"reasoning_basic_audio", "reasoning_basic_video"}:
        answers = Counter(question.answer for question in questions if question.task == task)
        assert answers["A"] == answers["B"]
    assert (
        emorealm.score(questions, {question.id: question.answer for question in questions})["average_accuracy"] == 100
    )
