"""A folder's safetensors as one table of tensors: headers are read, bytes are mapped, nothing is loaded until asked."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.errors import CheckpointError, DataError
from avem.reading import parse_json
from avem.weights import INDEX, NAMES, open_safetensors, weight_files

if TYPE_CHECKING:
    import torch

SAFETENSORS = NAMES[0]
HEADER_LENGTH = struct.Struct("<Q")
"""A safetensors file starts with the length of its JSON header, in bytes."""
DIGEST_BYTES = 2**24
"""Bytes hashed at once, so that pages leave memory again while a large tensor is read."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies on disk."""

    file: Path
    dtype: str
    """As safetensors names it, such as `BF16`."""
    shape: tuple[int, ...]
    start: int
    """First byte in the file, and one past the last."""
    end: int


class TensorFiles:
    """Every tensor of a folder by name.

    Args:
        folder: With `model.safetensors`, or with `model.safetensors.index.json` and the shards that it names.

    Raises:
        MissingFileError: There are no weights, or a shard is missing.
        CheckpointError: A file is damaged, or the weights are not safetensors.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not any((folder / name).is_file() for name in (SAFETENSORS, SAFETENSORS + INDEX)):
            pickled = next((name for name in NAMES if (folder / name).is_file()), None)
            if pickled is not None:
                raise CheckpointError(f"{folder} holds {pickled} alone; convert the weights to safetensors.")
        self.tensors: dict[str, StoredTensor] = {}
        for file in weight_files(folder):
            self.tensors |= _read_header(file)

    def digest(self, names: Iterable[tuple[str, str]]) -> str:
        """SHA-256 over some tensors: their names, dtypes, shapes and bytes, in the order of their names.

        Args:
            names: Pairs of a name as it enters the digest and the tensor's name in the files.
        """
        digest = hashlib.sha256()
        for called, name in sorted(names):
            tensor = self.tensors[name]
            digest.update(json.dumps([called, tensor.dtype, list(tensor.shape)]).encode())
            with tensor.file.open("rb") as file:
                file.seek(tensor.start)
                for start in range(tensor.start, tensor.end, DIGEST_BYTES):
                    digest.update(file.read(min(DIGEST_BYTES, tensor.end - start)))
        return digest.hexdigest()

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield tensors by name, in the order of the files; each is mapped, and leaves memory once it is dropped.

        Raises:
            CheckpointError: A file is damaged.
        """
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self.tensors[name].file, []).append(name)
        for path, held in by_file.items():
            with open_safetensors(path) as file:
                for name in held:
                    yield name, file.get_tensor(name)


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file.

    Raises:
        CheckpointError: It is not a whole safetensors file.
    """
    damaged = f"{path} is not a whole safetensors file; fetch it again."
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(HEADER_LENGTH.size)
        length = HEADER_LENGTH.unpack(start)[0] if len(start) == HEADER_LENGTH.size else size
        if HEADER_LENGTH.size + length > size:
            raise CheckpointError(damaged)
        text = file.read(length)
    base = HEADER_LENGTH.size + length
    tensors: dict[str, StoredTensor] = {}
    try:
        header: dict[str, Any] = parse_json(text, str(path), dict)
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                shape = tuple(map(int, entry["shape"]))
                tensors[name] = StoredTensor(path, str(entry["dtype"]), shape, base + first, base + last)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(damaged) from error
    if any(not base <= tensor.start <= tensor.end <= size for tensor in tensors.values()):
        raise CheckpointError(damaged)
    return tensors
