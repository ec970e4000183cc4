"""Emotion-LLaMA as a family; see `avem.train.families.registry.FamilyLoader`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from avem.train.families.emotion_llama.files import LANGUAGE_MODEL, load_parts, read_config, read_parts, read_sizes
from avem.train.families.emotion_llama.model import EmotionLlama
from avem.train.model.language_models import empty_language_model, load_language_model
from avem.train.model.tokenizers import load_tokenizer


def load(folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> EmotionLlama:
    """Read a model that `avem models import emotion-llama` or `EmotionLlama.save` wrote.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: The parts do not fit each other or the configuration.
    """
    config = read_config(folder, settings)
    parts = read_parts(folder, config)
    language_model, words = load_language_model(folder / LANGUAGE_MODEL, device, dtype)
    model = EmotionLlama(language_model, words, parts.sizes, config)
    model.projections.to(device=device, dtype=dtype)
    load_parts(model, folder, parts)
    return model


def skeleton(folder: Path, settings: dict[str, Any]) -> EmotionLlama:
    """The same model without weights and without adapters, which training folds in or makes itself."""
    config = read_config(folder, settings)
    sizes = read_sizes(folder)
    with init_empty_weights(include_buffers=False):
        language_model, words = empty_language_model(folder / LANGUAGE_MODEL)
        return EmotionLlama(language_model, words, sizes, config)


def tokenizer(folder: Path, settings: dict[str, Any]) -> Any:
    """The Llama's tokenizer alone."""
    return load_tokenizer(folder / LANGUAGE_MODEL)
