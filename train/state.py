"""What a checkpoint holds: trained weights, optimiser, and how many steps are done.

Nothing else is needed to go on bit for bit: the order of the rows, the learning rate and the random numbers of a step
are functions of the settings and the step's number.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from avem.errors import CheckpointError


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_state(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write `trained.safetensors`, `optimizer.pt` and `state.json`.

    Args:
        directory: An empty directory.
        model: Its trained parameters are saved, in their own number format.
        optimizer: Its state is saved.
        step: Optimiser steps done.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in trained_parameters(model).items()}
    save_file(weights, directory / "trained.safetensors")
    torch.save(optimizer.state_dict(), directory / "optimizer.pt")
    (directory / "state.json").write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")


def load_state(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Read what `save_state` wrote.

    Returns:
        Optimiser steps done.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights are not those that are trained.
    """
    try:
        state = torch.load(directory / "optimizer.pt", map_location="cpu", weights_only=True)
        step = int(json.loads((directory / "state.json").read_text(encoding="utf-8"))["step"])
    except Exception as error:  # each reader has its own errors for a damaged file
        raise _unreadable(directory, error) from error
    load_weights(directory, model)
    optimizer.load_state_dict(state)
    return step


def load_weights(directory: Path, model: nn.Module) -> None:
    """Read the trained weights alone.

    Raises:
        CheckpointError: The file is missing or damaged, or the weights are not those that are trained.
    """
    try:
        weights = load_file(directory / "trained.safetensors")
    except Exception as error:
        raise _unreadable(directory, error) from error
    parameters = trained_parameters(model)
    if weights.keys() != parameters.keys():
        different = sorted(weights.keys() ^ parameters.keys())
        raise CheckpointError(f"{directory} was saved for other weights ({different[0]} differs); start a new run.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _unreadable(directory: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{directory} can't be read ({error}); delete it to go on from an older one.")
