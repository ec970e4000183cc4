"""What every encoder's checkpoint needs besides `avem.weights`: its configuration, a digest, a strict fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from avem import reading
from avem.errors import CheckpointError, MissingFileError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object such as `config.json`.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: It is not a JSON object.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no {path.name} in {path.parent}; give the folder of a whole checkpoint.")
    try:
        value = reading.read_json(path)
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the checkpoint again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object; fetch the checkpoint again.")
    return value


def tensors_sha256(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values: the same for the same weights in any file format.

    Args:
        tensors: Floating-point tensors of any dtype on the CPU.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to(torch.float32).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().reshape(-1).view("u1").data)
    return digest.hexdigest()


def load_strict(module: torch.nn.Module, tensors: dict[str, torch.Tensor], source: Path) -> None:
    """Put tensors into a module of the same names and shapes.

    Raises:
        CheckpointError: A tensor is missing, left over or misshapen; the message names the first few of each.
    """
    check_fit(module, {name: tuple(value.shape) for name, value in tensors.items()}, source)
    module.load_state_dict(tensors, assign=False)


def check_fit(module: torch.nn.Module, found: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """Compare a checkpoint's tensors with a module's, names and shapes alone.

    Raises:
        CheckpointError: A tensor is missing, left over or misshapen; the message names the first few of each.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is not expected" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} is {found[name]} instead of {expected[name]}"
        for name in expected.keys() & found.keys()
        if expected[name] != found[name]
    ]
    if faults:
        shown = "; ".join(sorted(faults)[:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"The weights in {source} do not fit its configuration: {shown}{more}.")
