"""For each family of models a tiny checkpoint on disk, a store of what it reads, and rows to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.files import write_json_lines
from avem.train import PreferenceConfig
from tests.train import training_kit
from tests.train.families import emotion_llama_kit
from tests.train.families.qwen_omni import qwen_omni_kit
from tests.train.families.qwen_omni.test_training import make_store as make_omni_store

FAMILIES = ("generic", "avere", "emotion_llama", "qwen2_5_omni", "qwen3_omni")
ROWS = 9
"""Three questions on each of three clips."""
GOLDEN = Path(__file__).parents[2] / "golden"


@dataclass(frozen=True)
class World:
    """Where a family's files are."""

    family: str
    model: Path
    store: Path
    prefs: Path

    def config(self, out: Path, **changes: Any) -> PreferenceConfig:
        """Settings of a run in bfloat16."""
        settings: dict[str, Any] = {
            "cache": self.store,
            "model": str(self.model),
            "prefs": self.prefs,
            "out": out,
            "device": "cpu",
            "precision": "bf16",
            "tune": "lora",
            "lora_rank": 2,
            "lora_new": True,
            "learning_rate": 3e-3,
            "batch_size": 3,
            "accumulation": 1,
            "epochs": 1,
            "tokens_per_batch": 6000,
            "trackers": "none",
            "reliance_rows": 0,
        }
        return PreferenceConfig(**{**settings, **changes})


def make_world(family: str, folder: Path) -> World:
    """Write everything of a family into a folder."""
    store, prefs = folder / "cache", folder / "prefs.jsonl"
    write_json_lines(prefs, [row.to_json() for row in training_kit.preference_rows()[:ROWS]])
    if family == "generic":
        model = training_kit.make_kit(folder / "kit").model
        training_kit.make_store(store)
    elif family == "avere":
        model = GOLDEN / "avere_tiny"
        training_kit.make_store(store, video_width=32, audio_width=64)
    elif family == "emotion_llama":
        model = emotion_llama_kit.import_tiny(folder)
        emotion_llama_kit.make_store(store, clips=training_kit.CLIPS)
        for modality in ("audio", "video", "audiovisual"):
            training_kit.write_negatives(store, "hard", modality, training_kit.negatives(modality))
    else:
        reference = qwen_omni_kit.thinker(family)
        model = qwen_omni_kit.save_checkpoint(reference, folder / "base")
        make_omni_store(store, reference, model)
    return World(family, model, store, prefs)
