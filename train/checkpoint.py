"""Loading models of every layout, and avem's own: a folder with the language model, the projectors and a tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch

from avem.errors import CheckpointError
from avem.locate import locate_model
from avem.train.avere import is_avere, load_avere
from avem.train.model import AudiovisualLM


def load_model(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> AudiovisualLM:
    """Load an audiovisual model: an AVERE checkpoint, an avem checkpoint, or a run's folder with an adapter.

    Args:
        path: A folder, or a hub id.
        device: Where the weights go.
        dtype: Their number format.

    Returns:
        The model in evaluation mode.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: It is none of these layouts, or its weights do not fit its configuration.
    """
    folder = locate_model(path, "--model")
    if is_avere(folder):
        return load_avere(folder, device, dtype)
    raise CheckpointError(f"{folder} is neither an AVERE checkpoint, an avem checkpoint nor the result of a run.")
