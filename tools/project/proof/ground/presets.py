"""Settings of the proof's trainings: `proof` on the small bases, `proof-smollm2` on a base with released weights."""

from __future__ import annotations

from typing import Any

PREFERENCE: dict[str, dict[str, Any]] = {
    "proof": {
        "tune": "full",  # adapters' first weights decide where a small model's threshold ends
        "beta": 3.0,
        "gamma_tpd": 0.3,
        "learning_rate": 1e-4,
        "batch_size": 32,
        "accumulation": 1,
        "warmup": 0.1,
        "epochs": 2,
        "adam_beta2": 0.98,
        "reliance_rows": 0,
        "trackers": "none",
        "save_every": 20,
        "average_checkpoints": 5,
    },
    "proof-smollm2": {
        "precision": "bf16",
        "epochs": 1,
        "max_steps": 24,
        "save_every": 0,  # a checkpoint takes 1.6 GB
        "average_checkpoints": 0,
    },
}
"""Settings of `PreferenceConfig`."""

_RELEASED: dict[str, Any] = {
    "tune": "full",
    "learning_rate": 3e-4,
    "projector_learning_rate": 2e-3,
    "accumulation": 1,
    "epochs": 1,
    "warmup": 0.05,
    "adam_beta2": 0.98,
    "precision": "bf16",
    "reliance_rows": 0,
    "trackers": "none",
}
"""Of both stages of SmolLM2's base."""

SUPERVISED: dict[str, dict[str, Any]] = {
    "proof": {
        "learning_rate": 1e-3,
        "batch_size": 48,
        "accumulation": 1,
        "epochs": 4,
        "warmup": 0.05,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "trackers": "none",
    },
    "proof-smollm2-captions": {**_RELEASED, "batch_size": 24},
    "proof-smollm2": {**_RELEASED, "batch_size": 48, "max_steps": 600},
}
"""Settings of `SupervisedConfig`, for the bases."""
