"""Writing a checkpoint in the released layout: another folder's files with some tensors replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from avem.errors import CheckpointError
from avem.files import replace_directory
from avem.guards.output_kinds import MARKER, OMNI
from avem.hub.omni import OmniFolder
from avem.reading import read_json
from avem.sealed.checksums import write_checksums
from avem.train.families.qwen_omni.adapter import LowRank
from avem.train.families.qwen_omni.cards import FILE, SETTINGS
from avem.train.families.qwen_omni.names import own_name
from avem.train.model.saving import FORMAT_VERSION
from avem.weights import INDEX, NAMES, weight_files

Change = Callable[[str, torch.Tensor], torch.Tensor]
"""From a tensor's name inside the language model (`model.layers.0. ...`) and its value to the value that is written."""
LEFT_OUT = {MARKER, "checksums.json"}
"""What another avem wrote about the folder that is copied."""


def write_like(
    folder: OmniFolder,
    directory: Path,
    change: Change,
    *,
    dtype: torch.dtype | None = None,
    card: str = "",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder like another, file by file, so that at most one file's changed tensors are in memory.

    Towers, talker and vocoder are copied as they are, and so is every file beside the weights.

    Args:
        folder: The checkpoint that is copied.
        directory: The new folder; an older one that avem wrote is replaced whole.
        change: Gives the language model's tensors.
        dtype: Number format of the language model's tensors; None keeps each one's own.
        card: Text of `README.md`; empty keeps the checkpoint's own.
        settings: What `avem.json` says of the training; None leaves the checkpoint's own.

    Raises:
        SettingError: The new folder holds something else, or what is read.
        WriteError: It can't be written.
    """

    def fill(fresh: Path) -> None:
        size = 0
        for file in weight_files(folder.path):
            names = [name for name, tensor in folder.weights.tensors.items() if tensor.file == file]
            tensors = {}
            for name, tensor in folder.weights.read(names):
                own = own_name(name, folder.prefix)
                written = tensor if own is None else change(own, tensor).to("cpu", dtype or tensor.dtype).contiguous()
                tensors[name] = written
                size += written.numel() * written.element_size()
            save_file(tensors, fresh / file.name, metadata={"format": "pt"})
        _copy_others(folder.path, fresh, size)
        if card:
            (fresh / "README.md").write_text(card, encoding="utf-8")
        if settings:
            text = json.dumps({"format_version": FORMAT_VERSION, SETTINGS: settings}, indent=2, sort_keys=True)
            (fresh / FILE).write_text(text + "\n", encoding="utf-8")
        write_checksums(fresh)

    replace_directory(directory, fill, OMNI, reads=[folder.path])


def add_updates(folder: OmniFolder, adapters: list[Mapping[str, LowRank]]) -> Change:
    """The change that folds adapters into their base, summed in float32 and rounded once.

    Args:
        folder: The base.
        adapters: Updates by tensor name, from `avem.train.families.qwen_omni.adapter.read_adapter`.

    Raises:
        CheckpointError: An update is for a tensor that the base does not hold, or of another shape.
    """
    held = {
        own: tensor.shape for name, tensor in folder.weights.tensors.items() if (own := own_name(name, folder.prefix))
    }
    for updates in adapters:
        for name, update in updates.items():
            shape = (update.up.shape[0], update.down.shape[1])
            if held.get(name) != shape:
                found = "has none of this name" if name not in held else f"has {list(held[name])}"
                raise CheckpointError(
                    f"The adapter updates {name} {list(shape)} and the base in {folder.path} {found}; give the base it "
                    "was trained on."
                )

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        found = [updates[name] for updates in adapters if name in updates]
        if not found:
            return tensor
        exact = torch.promote_types(tensor.dtype, torch.float32)
        total = tensor.to(exact)
        for update in found:
            total = update.added_to(total)
        return total.to(tensor.dtype)

    return change


def _copy_others(source: Path, fresh: Path, size: int) -> None:
    """Copy what lies beside the weights, and the index with its new size."""
    weights = {file.name for file in weight_files(source)}
    for path in sorted(source.iterdir()):
        skipped = path.name.startswith(".") or path.name in LEFT_OUT | weights
        if path.is_file() and not skipped:
            shutil.copyfile(path, fresh / path.name)
    index = fresh / f"{NAMES[0]}{INDEX}"
    if index.is_file():
        content = read_json(index, dict)
        content["metadata"] = {**(content.get("metadata") or {}), "total_size": size}
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
