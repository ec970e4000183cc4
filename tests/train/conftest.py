"""Reference data and tiny models for the model side of `avem.train`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperModel

from avem.train import AudiovisualLM, load_model

torch.set_num_threads(1)  # models this small only lose time to more threads
sys.path.insert(0, str(Path(__file__).parent))  # model_kit, for the tests of this folder


@dataclass(frozen=True)
class Golden:
    """Arrays, texts and features of one folder of reference data."""

    arrays: dict[str, np.ndarray]
    texts: dict
    folder: Path

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])


def read_golden(folder: Path, texts: str) -> Golden:
    with np.load(folder / "io.npz") as arrays:
        return Golden(dict(arrays), json.loads((folder / texts).read_text()), folder)


@pytest.fixture(scope="session")
def avere_golden(golden: Path) -> Golden:
    return read_golden(golden / "avere_tiny", "texts.json")


@pytest.fixture(scope="session")
def preference_golden(golden: Path) -> Golden:
    return read_golden(golden / "preference", "meta.json")


@pytest.fixture(scope="session")
def avere_model(golden: Path) -> AudiovisualLM:
    return load_model(golden / "avere_tiny")


@pytest.fixture(scope="session")
def whisper_states(golden: Path, avere_golden: Golden) -> torch.Tensor:
    """Encoder states [3, 1500, 64] of the reference log-mels, by transformers' Whisper."""
    encoder = WhisperModel.from_pretrained(golden / "whisper").encoder.eval()
    with torch.no_grad():
        return encoder(avere_golden.tensor("log_mels")).last_hidden_state
