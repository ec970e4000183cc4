"""Reading released checkpoints: safetensors first, PyTorch files with `weights_only=True`, whole or in shards."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from avem import reading
from avem.errors import CheckpointError, MissingFileError

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names looked for in a checkpoint folder, in this order."""

UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, LookupError, EOFError, ValueError, OSError, TypeError, AttributeError,
)  # fmt: skip
"""What PyTorch raises on damaged files."""


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


def read_torch_file(path: Path) -> dict[str, Any]:
    """Load a `.pt` or `.bin` file without running code from it.

    Raises:
        CheckpointError: It is damaged, or holds objects other than tensors and plain values.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        LookupError,
        EOFError,
        ValueError,
        OSError,
        TypeError,
        AttributeError,
    ) as error:
        raise CheckpointError(f"{path} can't be read as tensors; it is damaged or not a PyTorch file.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a state dictionary.")
    return value


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a Hugging Face checkpoint folder, by name.

    Args:
        folder: Holds one of `WEIGHT_FILES`, and the shards that an index names.

    Raises:
        MissingFileError: None of these files, or not all shards, are there.
        CheckpointError: A file is damaged.
    """
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_file():
            break
    else:
        raise MissingFileError(f"{folder} holds no weights: looked for {', '.join(WEIGHT_FILES)}.")
    if path.suffix != ".json":
        return _read_weight_file(path)
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(read_json(path).get("weight_map", {}).values())):
        tensors |= _read_weight_file(folder / shard)
    return tensors


def _read_weight_file(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise MissingFileError(f"{path} is missing, although the checkpoint's index names it; fetch it again.")
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); fetch it again.") from error


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
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
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
    module.load_state_dict(tensors, assign=False)
