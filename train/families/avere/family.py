"""AVERE's released checkpoints as a family; see `avem.train.families.registry.FamilyLoader`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avem.train.families.avere.checkpoint import empty_avere, load_avere
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.tokenizers import load_tokenizer

load = load_avere


def skeleton(folder: Path, settings: dict[str, Any]) -> AudiovisualLM:
    """The model of a checkpoint without its weights."""
    return empty_avere(folder, settings)


def tokenizer(folder: Path, settings: dict[str, Any]) -> Any:
    """The checkpoint's tokenizer alone."""
    return load_tokenizer(folder)
