"""Small encoders, a small model on their features, clips, and a store of some of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from avem.cache import FeatureStore
from avem.extract import ExtractOptions, extract
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.tools.ask.settings import AskOptions, write_kit
from avem.train import AudiovisualLM
from tests.extract.conftest import write_clip
from tests.train.model_kit import byte_tokenizer, tiny_config, tiny_language_model

WIDTH = 32


@dataclass(frozen=True)
class World:
    """Where everything is."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def cache(self) -> Path:
        """A store of the clips in `held/`."""
        return self.root / "cache"

    @property
    def held(self) -> Path:
        return self.root / "held" / "happy"

    @property
    def new(self) -> Path:
        """Clips that the store does not hold: `a.mp4`, `b.mp4`, and `mute.mp4` without sound."""
        return self.root / "new"

    @property
    def encoders(self) -> dict[str, str]:
        return {"video_encoder": str(self.root / "video"), "audio_encoder": str(self.root / "audio")}

    def options(self, **changes: Any) -> AskOptions:
        given = {"model": str(self.model), "device": "cpu", "max_new_tokens": 6, **self.encoders, **changes}
        return AskOptions(**given)

    def store(self) -> FeatureStore:
        return FeatureStore.open(self.cache)


def extract_one_by_one(root: Path, cache: Path, encoders: dict[str, str]) -> FeatureStore:
    """A store whose clips were encoded as `avem ask` encodes them: one a batch."""
    extract(root, cache, ExtractOptions(**encoders, workers=1, batch_size=1, device="cpu"))
    return FeatureStore.open(cache)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("ask"))
    make_random_languagebind(
        made.root / "video", image_size=32, patch_size=16, hidden=WIDTH, layers=2, heads=2, frames=4, projection_dim=16
    )
    make_random_whisper(made.root / "audio", width=WIDTH, layers=1, heads=2, positions=50)
    for number in range(2):
        write_clip(made.held / f"{number}.mp4", seed=number, frames=10 + number)
    for number, name in enumerate(("a", "b")):
        write_clip(made.new / f"{name}.mp4", seed=10 + number, frames=12)
    write_clip(made.new / "mute.mp4", seed=20, sound=None)
    extract_one_by_one(made.root / "held", made.cache, made.encoders)
    config = tiny_config(
        video_hidden_size=WIDTH, audio_hidden_size=WIDTH, video_projector="linear", audio_projector="stack-mlp"
    )
    model = AudiovisualLM.create(tiny_language_model().to(torch.float32), byte_tokenizer(), config, seed=1)
    store = made.store()
    model.record_features({"video": digest(store, "video"), "audio": digest(store, "audio")})
    model.save(made.model)
    write_kit(
        made.root,
        model="model",
        cache="cache",
        video_encoder="video",
        audio_encoder="audio",
        question="What is felt?",
        emotion_question="Which feeling?",
        emotion_answer="It is {}.",
    )
    return made


def digest(store: FeatureStore, kind: str) -> str:
    from avem.files import json_sha256

    return json_sha256(store.fingerprint(kind))
