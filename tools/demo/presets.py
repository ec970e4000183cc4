"""Settings of the demo's two trainings, for a small model and a small corpus."""

from __future__ import annotations

from typing import Any

PREFERENCE: dict[str, Any] = {
    "beta": 2.0,
    "beta_vr": 0.2,
    "beta_er": 0.8,
    "gamma_tpd": 0.1,
    "learning_rate": 2e-3,
    "batch_size": 176,
    "accumulation": 1,
    "warmup": 0.1,
    "epochs": 3,
    "adam_beta2": 0.98,
}
"""Settings of `PreferenceConfig`."""

SUPERVISED: dict[str, Any] = {
    "learning_rate": 2e-3,
    "batch_size": 192,
    "accumulation": 1,
    "epochs": 8,
    "warmup": 0.05,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
}
"""Settings of `SupervisedConfig`, for the base model."""
