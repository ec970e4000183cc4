"""Loading Qwen2.5-Omni and Qwen3-Omni; see `avem.train.families.registry.FamilyLoader`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from avem.errors import CheckpointError, DataError
from avem.hub.omni import OmniFolder
from avem.reading import advise, read_json
from avem.train.families.qwen_omni.cards import FILE
from avem.train.families.qwen_omni.checkpoint import empty_language_model, load_language_model
from avem.train.families.qwen_omni.experts import use_outline
from avem.train.families.qwen_omni.merge import merge
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.tokenizers import load_tokenizer

__all__ = ["load", "merge", "skeleton", "tokenizer"]


def load(folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> QwenOmniModel:
    """Read a full checkpoint or a thinker alone: its language model in memory, everything else left on disk."""
    omni = OmniFolder.open(folder)
    omni.check_tokenizer()
    words = tokenizer(folder, settings)
    return _complete(QwenOmniModel(load_language_model(omni, device, dtype), words, omni))


def skeleton(folder: Path, settings: dict[str, Any]) -> QwenOmniModel:
    """The same model without weights."""
    omni = OmniFolder.open(folder)
    omni.check_tokenizer()
    model = QwenOmniModel(empty_language_model(omni), tokenizer(folder, settings), omni)
    if model.experts:
        use_outline(model.language_model)
    return _complete(model)


def _complete(model: QwenOmniModel) -> QwenOmniModel:
    """Take over what avem wrote into the folder of a checkpoint that it trained."""
    path = model.folder.path / FILE
    if path.is_file():
        try:
            model.adopt_settings(model.folder.path, read_json(path, dict))
        except DataError as error:
            raise CheckpointError(advise(error, "copy the checkpoint again")) from error
    return model.eval()


def tokenizer(folder: Path, settings: dict[str, Any]) -> Any:
    """The model's tokenizer, with the chat template that the checkpoint keeps for its processor.

    Raises:
        CheckpointError: Tokenizer or template can't be read.
    """
    words = load_tokenizer(folder)
    path = folder / "chat_template.json"
    if not words.chat_template and path.is_file():
        try:
            words.chat_template = read_json(path, dict).get("chat_template")
        except DataError as error:
            raise CheckpointError(advise(error, "fetch the checkpoint again")) from error
    return words
