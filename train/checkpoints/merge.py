"""Folding an adapter into its base: from a run, or peft's adapter alone, to a whole model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from avem.errors import MissingFileError, SettingError
from avem.guards.output_kinds import AVERE, MODEL, OMNI
from avem.guards.outputs import folder_target
from avem.locate import locate_model
from avem.reading import read_json
from avem.train.checkpoints.load import base_of, finished, load_model, read_settings
from avem.train.families.avere.checkpoint import IGNORED
from avem.train.families.avere.export import save_avere
from avem.train.families.base import FamilyModel
from avem.train.families.registry import FamilyLoader, find_family
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.lora import load_adapter
from avem.train.model.saving import ADAPTER_TYPE
from avem.weights import read_tensors

Layout = Literal["avem", "avere"]
NumberFormat = Literal["float32", "bfloat16", "float16"]
NOT_AVERE = "AVERE's layout can't hold a model of this family; leave --layout and --towers out."


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How a merged model is written."""

    base: str | None = None
    """Model that a bare adapter belongs to; None: the one that its `adapter_config.json` names."""
    layout: Layout = "avem"
    """avem's own, or AVERE's, which the authors' tools read."""
    towers: str | None = None
    """AVERE checkpoint that gives the encoders' weights; None: the base."""
    dtype: NumberFormat | None = None
    """Number format of the weights; None: the one that the base is kept in."""
    licence: str | None = None
    """For the model card, as a Hugging Face identifier; None: what the base says."""


def merge_model(source: str | Path, directory: Path, options: MergeOptions | None = None) -> Path:
    """Write a whole model from what a run trained. Sums are taken in float32 and rounded once.

    Args:
        source: A run directory, its `final/`, or a folder of peft's `adapter_config.json` and weights.
        directory: The new folder: absent, empty, or a model that avem wrote, which is replaced whole.
        options: How.

    Returns:
        The new folder.

    Raises:
        MissingFileError: The adapter or its base is not there.
        CheckpointError: They do not fit each other.
        SettingError: AVERE's layout can't hold the model, or the folder holds something else or what is read.
    """
    options = options or MergeOptions()
    folder = finished(locate_model(source, "RUN_OR_ADAPTER"))
    adapters, base = _pile(folder, options)
    reads = [source, folder, options.base, options.towers, base]
    settings = read_settings(folder) if (folder / "config.json").is_file() else {}
    provenance = {**settings.get("provenance", {}), "merged": {"adapter": _name(source), "base": _name(base)}}
    family = find_family(read_settings(locate_model(base, "--base")))
    if family is not None and (loader := family.loader()) and hasattr(loader, "merge"):
        folder_target(directory, OMNI, reads=reads, option="OUT")
        _merge_released(loader, locate_model(base, "--base"), adapters, directory, options, provenance)
        return directory
    kind = AVERE if options.layout == "avere" else MODEL
    folder_target(directory, kind, reads=reads, option="OUT")
    model = _load(folder, options)
    model.merge()
    number_format = getattr(torch, options.dtype) if options.dtype else _stored_dtype(base)
    if options.layout == "avere":
        if not isinstance(model, AudiovisualLM):
            raise SettingError(NOT_AVERE)
        save_avere(model, directory, towers=options.towers or base, dtype=number_format)
        return directory
    model.source = str(base)
    model.to(number_format).save(directory, licence=options.licence, provenance=provenance)
    return directory


def _pile(folder: Path, options: MergeOptions) -> tuple[list[Path], str | Path]:
    """Adapters, each trained on the one before, and the base below them all."""
    adapters: list[Path] = []
    base: str | Path = folder
    if not (folder / "config.json").is_file():
        if not (folder / "adapter_config.json").is_file():
            raise MissingFileError(
                f"{folder} holds neither a model nor an adapter; give a run, or peft's adapter folder."
            )
        adapters, base = [folder], options.base or _named_base(folder)
    while True:
        found = finished(locate_model(base, "--base"))
        settings = read_settings(found)
        if settings.get("model_type") != ADAPTER_TYPE:
            return adapters, base
        adapters.insert(0, found)
        base = base_of(found, settings)


def _merge_released(
    loader: FamilyLoader,
    base: Path,
    adapters: list[Path],
    directory: Path,
    options: MergeOptions,
    provenance: dict[str, Any],
) -> None:
    """Let a family fold adapters into its released layout."""
    if options.layout == "avere" or options.towers:
        raise SettingError(NOT_AVERE)
    dtype = getattr(torch, options.dtype) if options.dtype else None
    merge: Any = getattr(loader, "merge")  # noqa: B009 - not all families have one
    merge(base, adapters, directory, dtype=dtype, licence=options.licence or "", provenance=provenance)


def _load(folder: Path, options: MergeOptions) -> FamilyModel:
    """The model with its adapter in float32."""
    if (folder / "config.json").is_file():
        return load_model(folder)
    model = load_model(options.base or _named_base(folder))
    load_adapter(model, folder)
    return model


def _named_base(folder: Path) -> str | Path:
    """The base that a bare adapter names, relative to its folder where it is a relative path."""
    named = read_json(folder / "adapter_config.json", dict).get("base_model_name_or_path")
    if not named:
        raise MissingFileError(f"The adapter in {folder} does not name its base; give it with --base.")
    return folder / named if (folder / named).exists() else str(named)


def _stored_dtype(base: str | Path) -> torch.dtype:
    """The number format of most of a model's weights on disk, encoders left aside."""
    folder = locate_model(base, "--base")
    own = folder / "language_model"
    counts: dict[torch.dtype, int] = {}
    for name, tensor in read_tensors(own if own.is_dir() else folder):
        if tensor.is_floating_point() and not IGNORED.match(name):
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    return max(counts, key=lambda dtype: counts[dtype])


def _name(name_or_path: str | Path) -> Any:
    """A hub id as it is, a folder by its own name alone: a card says nothing about somebody's disk."""
    path = Path(name_or_path)
    return path.resolve().name if path.exists() else str(name_or_path)
