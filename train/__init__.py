"""Model assembly, prompts, scoring, losses and the trainers; heavy parts load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.train.checkpoints.load import load_model
    from avem.train.model.audiovisual import AudiovisualLM
    from avem.train.model.config import AudiovisualConfig
    from avem.train.model.sequences import ScoredSequence

_PLACES = {
    "load_model": "avem.train.checkpoints.load",
    "AudiovisualLM": "avem.train.model.audiovisual",
    "AudiovisualConfig": "avem.train.model.config",
    "ScoredSequence": "avem.train.model.sequences",
}

__all__ = ["AudiovisualConfig", "AudiovisualLM", "ScoredSequence", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
