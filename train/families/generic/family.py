"""avem's own layout: a Hugging Face language model in `language_model/`, and projectors beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from avem.train.families.generic.files import load_projectors, read_config
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.language_models import empty_language_model, load_language_model
from avem.train.model.saving import projector_state
from avem.train.model.tokenizers import load_tokenizer


def load(folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> AudiovisualLM:
    """Read a model that `AudiovisualLM.save` wrote; see `avem.train.families.registry.FamilyLoader`."""
    config = read_config(folder, settings)
    language_model, tokenizer = load_language_model(folder / "language_model", device, dtype)
    model = AudiovisualLM.create(language_model, tokenizer, config)
    model.avere_settings = settings.get("avere") or {}
    load_projectors(model, folder, needed=projector_state(model))
    return model


def skeleton(folder: Path, settings: dict[str, Any]) -> AudiovisualLM:
    """The same model without weights."""
    with init_empty_weights(include_buffers=False):
        language_model, tokenizer = empty_language_model(folder / "language_model")
        model = AudiovisualLM(language_model, tokenizer, read_config(folder, settings))
    model.avere_settings = settings.get("avere") or {}
    return model


def tokenizer(folder: Path, settings: dict[str, Any]) -> Any:
    """The model's tokenizer alone."""
    return load_tokenizer(folder / "language_model")
