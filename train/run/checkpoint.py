"""What a checkpoint holds: trained weights, optimiser, and how many steps are done.

Nothing else is needed to resume bit for bit: the order of the rows, the learning rate and the random numbers of a step
are functions of the settings and the step's number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avem.errors import CheckpointError, DataError
from avem.reading import read_json
from avem.sealed.checksums import check_folder
from avem.train.run.fsdp import gather, own_shard


class DamagedCheckpointError(CheckpointError):
    """A run's checkpoint that is not what was written; an older one may be intact."""


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    """What is saved; full tensors, however many processes share the weights."""

    weights: dict[str, Tensor]
    """The trained parameters on the CPU, in their own number format."""
    optimizer: dict[str, Any]
    """As `state_dict` gives it."""


def gather_checkpoint(model: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True) -> RunCheckpoint:
    """Gather what a checkpoint of a run holds.

    Args:
        model: Its trained parameters are taken.
        optimizer: Its moments are taken.
        keep: Whether this process wants it; where processes share the weights, each of them has to call.
    """
    weights = {name: _kept(value.detach(), keep) for name, value in trained_parameters(model).items()}
    state = optimizer.state_dict()
    moments = {
        number: {name: _kept(value, keep) if isinstance(value, Tensor) else value for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return RunCheckpoint(weights, {**state, "state": moments})


def gather_weights(module: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """All weights of a module by name, each gathered on the CPU; every process has to call, `keep` as above."""
    return {name: _kept(tensor, keep) for name, tensor in module.state_dict().items()}


def _kept(tensor: Tensor, keep: bool) -> Tensor:
    full = gather(tensor)
    return full.cpu().contiguous() if keep else full.new_empty(0)


def write_checkpoint(directory: Path, content: RunCheckpoint, step: int) -> None:
    """Write `trained.safetensors`, `optimizer.pt` and `state.json`.

    Args:
        directory: An empty directory.
        content: What to save.
        step: Optimiser steps done.
    """
    save_file(content.weights, directory / "trained.safetensors")
    torch.save(content.optimizer, directory / "optimizer.pt")
    (directory / "state.json").write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")


def read_checkpoint(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Read what `write_checkpoint` wrote.

    Returns:
        Optimiser steps done.

    Raises:
        DamagedCheckpointError: A file is missing or damaged.
        CheckpointError: The weights are not those that are trained.
    """
    check_checkpoint(directory)
    try:
        state = torch.load(directory / "optimizer.pt", map_location="cpu", weights_only=True)
        step = int(read_json(directory / "state.json", dict)["step"])
        if directory.name.startswith("step-") and directory.name != f"step-{step}":
            raise ValueError(f"state.json is of step {step}")
    except Exception as error:  # each reader has its own errors for a damaged file
        raise _unreadable(directory, error) from error
    load_weights(directory, model)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameters[number].shape:
                values[name] = own_shard(value, parameters[number])
    optimizer.load_state_dict(state)
    return step


def load_weights(directory: Path, model: nn.Module) -> None:
    """Read the trained weights alone.

    Raises:
        DamagedCheckpointError: The file is missing or damaged.
        CheckpointError: The weights are not those that are trained.
    """
    _set_weights(_read_weights(directory, model), model)


def load_mean_weights(directories: Sequence[Path], model: nn.Module) -> None:
    """Set the trained weights to the mean of those of some checkpoints, summed in float64 in the given order.

    The mean of LoRA factors is not the factor of the mean update; near the end of a run, where steps are small, the two
    are close.

    Args:
        directories: At least one checkpoint of the model's run.
        model: Its trained parameters are overwritten.

    Raises:
        DamagedCheckpointError: A checkpoint is missing or damaged.
        CheckpointError: The weights are not those that are trained.
    """
    sums: dict[str, Tensor] = {}
    for directory in directories:
        for name, value in _read_weights(directory, model).items():
            sums[name] = sums[name] + value if name in sums else value.double()
    _set_weights({name: value / len(directories) for name, value in sums.items()}, model)


def _read_weights(directory: Path, model: nn.Module) -> dict[str, Tensor]:
    check_checkpoint(directory)
    try:
        weights = load_file(directory / "trained.safetensors")
    except Exception as error:
        raise _unreadable(directory, error) from error
    parameters = trained_parameters(model)
    if weights.keys() != parameters.keys():
        different = sorted(weights.keys() ^ parameters.keys())
        raise CheckpointError(f"{directory} was saved for other weights ({different[0]} differs); start a new run.")
    return weights


def _set_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in trained_parameters(model).items():
            parameter.copy_(own_shard(weights[name].to(parameter.dtype), parameter))


def check_checkpoint(directory: Path) -> None:
    """Compare a checkpoint with its checksums; one from before checksums passes.

    Raises:
        DamagedCheckpointError: A file is missing or is not what was written; the message names it.
    """
    try:
        check_folder(directory)
    except DataError as error:
        raise DamagedCheckpointError(str(error)) from error


def _unreadable(directory: Path, error: Exception) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{directory} can't be read ({error}); delete it to resume from an older one.")
