"""Training: models, prompts, scoring, losses and runs, over cached features. Heavy parts load when first used.

Example:
    >>> from avem.train import PreferenceConfig
    >>> config = PreferenceConfig(cache="cache", model="base", out="run", prefs="preferences.jsonl")
    >>> config.beta, config.gamma_tpd, config.rows_per_step
    (0.1, 0.2, 8)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.train.answers import score_answers
    from avem.train.checkpoints.load import load_model
    from avem.train.model.audiovisual import AudiovisualLM
    from avem.train.model.config import AudiovisualConfig
    from avem.train.model.sequences import ScoredSequence
    from avem.train.preference import cache_logprobs, train_preferences
    from avem.train.settings.config import PreferenceConfig, SupervisedConfig
    from avem.train.supervised import train_supervised

__all__ = [
    "AudiovisualConfig",
    "AudiovisualLM",
    "PreferenceConfig",
    "ScoredSequence",
    "SupervisedConfig",
    "cache_logprobs",
    "load_model",
    "score_answers",
    "train_preferences",
    "train_supervised",
]

_HOMES = {
    "AudiovisualConfig": "model.config",
    "AudiovisualLM": "model.audiovisual",
    "PreferenceConfig": "settings.config",
    "ScoredSequence": "model.sequences",
    "SupervisedConfig": "settings.config",
    "cache_logprobs": "preference",
    "load_model": "checkpoints.load",
    "score_answers": "answers",
    "train_preferences": "preference",
    "train_supervised": "supervised",
}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"avem.train.{_HOMES[name]}"), name)
