"""Weights on disk, one tensor at a time: safetensors or PyTorch files, whole or in shards, never running code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from avem.errors import CheckpointError, DataError, MissingFileError
from avem.reading import advise, read_json

LAYOUTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
"""Where a folder may keep its weights, best first."""
PICKLED = "{} holds more than tensors and was not read, since a pickle can run code; convert it to safetensors."
"""What is said of a PyTorch file that only running code could read."""


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights, safetensors before PyTorch files.

    Raises:
        MissingFileError: There is none, or a shard that the index names is missing.
        CheckpointError: The index is not one.
    """
    for name in LAYOUTS:
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            return [path]
        try:
            names = sorted(set(read_json(path, dict)["weight_map"].values()))
        except DataError as error:
            raise CheckpointError(advise(error, "fetch the checkpoint again")) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is not an index of shards ({error}); fetch the checkpoint again.") from error
        files = [folder / Path(shard).name for shard in names]
        for file in files:
            if not file.is_file():
                raise MissingFileError(f"{folder} lacks the shard {file.name}; fetch the checkpoint again.")
        return files
    raise MissingFileError(f"{folder} holds no weights (none of {', '.join(LAYOUTS)}).")


def read_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a checkpoint by name; at most one file is mapped at a time.

    Raises:
        MissingFileError: There are no weights.
        CheckpointError: A file is damaged, or a PyTorch file holds anything but tensors.
    """
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            yield from read_safetensors(path)
        else:
            yield from _read_pytorch(path).items()


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            with _open_safetensors(path) as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        else:
            shapes |= {name: tuple(tensor.shape) for name, tensor in _read_pytorch(path).items()}
    return shapes


def fill(
    module: Any,
    folder: Path,
    names: dict[str, str],
    device: str | torch.device,
    dtype: torch.dtype,
) -> None:
    """Move a checkpoint's tensors into a module whose parameters have no storage yet, one tensor at a time.

    Args:
        module: An `AudiovisualLM` made under `init_empty_weights`, and found fitting by `check_shapes`.
        folder: The checkpoint.
        names: From the checkpoint's names to the module's; tensors of other names are left alone.
        device: Where the tensors go.
        dtype: Their number format.

    Raises:
        CheckpointError: A file is damaged.
    """
    found = {
        names[theirs]: tensor.to(device=device, dtype=dtype)
        for theirs, tensor in read_tensors(folder)
        if theirs in names
    }
    module.load_state_dict(found, strict=False, assign=True)
    module.language_model.tie_weights()
    module.to(device)


def check_shapes(
    module: Any,
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    names: dict[str, str],
    ignored: re.Pattern[str],
) -> None:
    """Refuse a checkpoint whose tensors are not those of a module.

    Args:
        module: An `AudiovisualLM`; a tied output layer may be absent from the file.
        folder: The checkpoint, for the message.
        shapes: Of its tensors, by name.
        names: From the checkpoint's names to the module's.
        ignored: Names in the checkpoint that the module has no use for.

    Raises:
        CheckpointError: Tensors are missing, unknown or misshapen.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tied = _tied_names(module)
    report_faults(
        folder,
        missing=[theirs for theirs, ours in names.items() if theirs not in shapes and ours not in tied],
        unknown=[theirs for theirs in shapes if theirs not in names and not ignored.match(theirs)],
        misshapen=[
            f"{theirs} is {list(shapes[theirs])}, not {list(expected[ours])}"
            for theirs, ours in names.items()
            if theirs in shapes and shapes[theirs] != expected[ours]
        ],
    )


def report_faults(where: Path, missing: list[str], unknown: list[str], misshapen: list[str]) -> None:
    """Raise one error that names what is wrong with a checkpoint, if anything is.

    Raises:
        CheckpointError: A list is not empty; at most five names of each are shown.
    """
    faults = [
        f"{title}: {'; '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for title, names in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"The weights in {where} do not fit its config.json ({', '.join(faults)}); fetch the checkpoint again."
        )


def _tied_names(module: Any) -> set[str]:
    tied = module.language_model.config.tie_word_embeddings
    return {"language_model.lm_head.weight"} if tied else set()


def read_safetensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one safetensors file by name.

    Raises:
        CheckpointError: The file is damaged.
    """
    with _open_safetensors(path) as file:
        names = list(file.keys())
    for name in names:  # opened anew for each, so that what is converted or dropped leaves memory at once
        with _open_safetensors(path) as file:
            yield name, file.get_tensor(name)


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); fetch it again.") from error


def _read_pytorch(path: Path) -> dict[str, torch.Tensor]:
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written before PyTorch 1.6, which can't be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(PICKLED.format(path)) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole PyTorch file ({error}); fetch it again.") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a dictionary of tensors.")
    return state
