"""Weights on disk, one tensor at a time: safetensors before PyTorch files, one file or shards, never running code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from avem.errors import CheckpointError, MissingFileError
from avem.reading import read_json

if TYPE_CHECKING:  # torch loads when a file is read: the commands that only look for models start without it
    import torch

INDEX = ".index.json"
NAMES = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""Where a folder may keep its weights, best first, as in transformers; an index names the shards beside it."""
PICKLED = "{} holds more than tensors and was not read, since a pickle can run code; convert it to safetensors."
"""What is said of a PyTorch file that only running code could read."""
UNREADABLE = (RuntimeError, LookupError, EOFError, ValueError, OSError, TypeError, AttributeError)
"""What PyTorch raises on damaged files, besides `UnpicklingError`."""


def name_patterns() -> tuple[str, ...]:
    """One regular expression for each of `NAMES`, which also matches the shards of an index.

    Example:
        >>> bool(re.fullmatch(name_patterns()[1], "model-00001-of-00002.safetensors"))
        True
    """
    patterns = []
    for name in NAMES:
        stem, suffix = name.removesuffix(INDEX).rsplit(".", 1)
        shards = rf"|{stem}-\d+-of-\d+\.{suffix}" if name.endswith(INDEX) else ""
        patterns.append(re.escape(name) + shards)
    return tuple(patterns)


def shard_names(index: Path) -> list[str]:
    """The file names of the shards that an index lists; a folder in front of a name is dropped.

    Raises:
        CheckpointError: It is not an index.
    """
    try:
        return sorted({Path(shard).name for shard in read_json(index, dict)["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of shards ({error}); fetch the checkpoint again.") from error


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: those of the first of `NAMES` that is there.

    Raises:
        MissingFileError: There is none, or a shard that the index names is missing.
        CheckpointError: The index is not one.
    """
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None:
        raise MissingFileError(f"{folder} holds no weights (none of {', '.join(NAMES)}).")
    if not path.name.endswith(INDEX):
        return [path]
    files = [folder / name for name in shard_names(path)]
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"{folder} has no shard {file.name}; fetch the checkpoint again.")
    return files


def read_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a checkpoint by name; at most one file is mapped at a time.

    Raises:
        MissingFileError: There are no weights, or a shard is missing.
        CheckpointError: A file is damaged, or a PyTorch file holds anything but tensors.
    """
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            yield from read_safetensors(path)
        else:
            yield from _pytorch_tensors(path).items()


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors; of safetensors only headers are read. Raises as `read_tensors`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            with open_safetensors(path) as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        else:
            shapes |= {name: tuple(tensor.shape) for name, tensor in _pytorch_tensors(path).items()}
    return shapes


def read_safetensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one safetensors file by name.

    Raises:
        CheckpointError: The file is damaged.
    """
    with open_safetensors(path) as file:
        names = list(file.keys())
    for name in names:  # opened for each one, so that what is converted or dropped leaves memory at once
        with open_safetensors(path) as file:
            yield name, file.get_tensor(name)


def read_pytorch(path: Path) -> dict[str, Any]:
    """Read a `.pt` or `.bin` file, mapped where its format allows, without running code from it.

    Returns:
        Tensors and plain values by name.

    Raises:
        CheckpointError: It is damaged, or holds objects other than tensors and plain values.
    """
    import torch

    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written before PyTorch 1.6, which can't be mapped
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if _starts_like_pytorch(path):
            raise CheckpointError(PICKLED.format(path)) from error
        raise CheckpointError(f"{path} can't be read as tensors; it is not a PyTorch file, fetch it again.") from error
    except UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{path} can't be read, it is not a whole PyTorch file ({reason}); fetch it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a dictionary of tensors.")
    return content


def _pytorch_tensors(path: Path) -> dict[str, torch.Tensor]:
    import torch

    content = read_pytorch(path)
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} is not a dictionary of tensors.")
    return content


def _starts_like_pytorch(path: Path) -> bool:
    """Whether a file begins as a zip archive or a pickle does; PyTorch writes one or the other."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"


def open_safetensors(path: Path) -> Any:
    """Map a safetensors file; a context manager whose `get_tensor` reads one tensor.

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); fetch it again.") from error
