"""Settings of the demo's two trainings, for a small model and a small corpus."""

from __future__ import annotations

from typing import Any

PREFERENCE: dict[str, Any] = {
    "beta": 2.0,
    "beta_vr": 0.2,
    "beta_er": 0.8,
    "gamma_tpd": 0.1,
    "learning_rate": 2e-3,
    "batch_size": 64,
    "accumulation": 1,
    "warmup": 0.1,
    "epochs": 5,
    "adam_beta2": 0.98,
    "nll": 1.0,
}
"""Settings of `PreferenceConfig`.

`nll` holds up the likelihood of the chosen answer. Without it both answers lose likelihood, the rejected one more: the
model ranks them rightly, and writes neither of them.

Of the corpus's preference rows the demo uses those that ask whether a cue shows the emotion, in small steps: with all
rows and steps of 176, at the same cost, the model hardly learns to check whether a cue is there (`docs/demo.md`).
"""

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
