"""Model assembly, prompts, scoring, losses and the trainers; heavy parts load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.train.checkpoint import load_model
    from avem.train.model import AudiovisualLM
    from avem.train.model_config import AudiovisualConfig
    from avem.train.sequences import ScoredSequence

_PLACES = {
    "load_model": "avem.train.checkpoint",
    "AudiovisualLM": "avem.train.model",
    "AudiovisualConfig": "avem.train.model_config",
    "ScoredSequence": "avem.train.sequences",
}

__all__ = ["AudiovisualConfig", "AudiovisualLM", "ScoredSequence", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
