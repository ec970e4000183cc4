"""Reading avem's own layout: the configuration, the projectors, and what a run trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from avem.errors import CheckpointError, MissingFileError
from avem.train.checkpoints.tensors import report_faults
from avem.train.model.config import AudiovisualConfig
from avem.train.model.lora import load_adapter
from avem.train.model.saving import FORMAT_VERSION, projector_state
from avem.weights import read_safetensors

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel
    from avem.train.model.audiovisual import AudiovisualLM


def read_config(folder: Path, settings: Mapping[str, Any]) -> AudiovisualConfig:
    """The audiovisual part of a `config.json` that avem wrote.

    Raises:
        CheckpointError: It is of another format version, or describes no audiovisual model.
    """
    check_version(folder, settings)
    return AudiovisualConfig.from_json(settings.get("audiovisual", {}), where=str(folder / "config.json"))


def check_version(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that another avem wrote in another format.

    Raises:
        CheckpointError: `format_version` is not this avem's.
    """
    version = settings.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{folder} has format version {version}; this avem reads {FORMAT_VERSION}, update it.")


def load_trained(model: AudiovisualLM, folder: Path, settings: Mapping[str, Any]) -> None:
    """Read what a run trained into its base: the configuration, the adapter and the projectors that are there.

    Args:
        model: The base; it is changed.
        folder: The result of a run.
        settings: Its `config.json`.

    Raises:
        CheckpointError: It does not fit the base.
    """
    added = model.take_config(read_config(folder, settings))
    load_parts(model, folder, added)


def load_parts(model: FamilyModel, folder: Path, added: Collection[str] = ()) -> None:
    """Read the adapter and the projectors of a run, as far as they are there.

    Args:
        model: The base; it is changed.
        folder: The result of a run.
        added: Parameters that the base did not have, so that the run has to hold them.

    Raises:
        CheckpointError: They do not fit the base.
    """
    if (folder / "adapter_config.json").is_file():
        load_adapter(model, folder)
    if added or (folder / "projectors.safetensors").is_file():
        load_projectors(model, folder, needed=added)


def load_projectors(model: FamilyModel, folder: Path, *, needed: Collection[str]) -> None:
    """Copy a file's tensors into what a model has outside its language model.

    Args:
        model: It is changed.
        folder: Holds `projectors.safetensors`.
        needed: Names that may not be missing.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: The tensors are not the model's.
    """
    path = folder / "projectors.safetensors"
    if not path.is_file():
        raise MissingFileError(f"{folder} has no projectors.safetensors; copy the complete model.")
    state, expected = dict(read_safetensors(path)), projector_state(model)
    report_faults(
        folder,
        missing=sorted(set(needed) - state.keys()),
        unknown=sorted(state.keys() - expected.keys()),
        misshapen=[name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape],
    )
    with torch.no_grad():
        for name, tensor in state.items():
            expected[name].copy_(tensor)
