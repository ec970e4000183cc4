"""Loading audiovisual models of every layout: AVERE's, avem's own, and the results of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from avem.errors import CheckpointError, DataError, MissingFileError
from avem.locate import locate_model
from avem.reading import advise, read_json
from avem.sealed.checksums import check_folder
from avem.train.families.base import FamilyModel
from avem.train.families.registry import Family, find_family
from avem.train.model.quantise import check_four_bit, quantise_linears
from avem.train.model.saving import ADAPTER_TYPE, check_model
from avem.train.model.tokenizers import load_tokenizer

NO_MODEL = "{} is neither an AVERE checkpoint, an avem checkpoint nor the result of a run."
"""Of a folder that no family reads."""


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    four_bit: bool = False,
) -> FamilyModel:
    """Load an audiovisual model of any family, or the result of a run.

    The family follows from the folder's `config.json`; see `avem.train.families.registry`.

    Args:
        path: A folder, or a hub id.
        device: Where the weights go.
        dtype: Their number format.
        four_bit: Keep the language model's linear layers in 4 bits; on a GPU alone.

    Returns:
        The model in evaluation mode; `model.family` names its family.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: It is none of these layouts, or its weights do not fit its configuration.
        DataError: A file of it is not what avem wrote.
        SettingError: 4-bit weights can't be had here.
    """
    if four_bit:
        check_four_bit(device)
    folder = finished(locate_model(path, "--model"))
    check_model(folder)
    settings = read_settings(folder)
    if settings.get("model_type") == ADAPTER_TYPE:
        model = _load_run(folder, settings, device, dtype, four_bit)
    else:
        loader = _family_of(folder, settings).loader()
        model = loader.load(folder, settings, "cpu" if four_bit else device, dtype)
        if four_bit:
            model.merge()  # released adapters, which have to be folded in while the weights are whole
            quantise_linears(model.language_model, device)
            model.to(device)
    model.source = str(path) if not Path(path).exists() else str(folder.resolve())
    model.licence = str(settings.get("licence") or model.licence)
    model.was_trained = _is_run(settings)
    training = (settings.get("provenance") or {}).get("training")
    model.saw_subtitles = training.get("subtitles") if isinstance(training, dict) else None
    return model.eval()


def load_skeleton(path: str | Path) -> FamilyModel:
    """A model as `load_model` would give it, without weights: parameters have shapes, and no storage.

    Args:
        path: A folder, or a hub id.

    Returns:
        The model on the device `meta`, adapters left out, since training folds them in first.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: It is none of these layouts, or its configuration can't be understood.
    """
    folder = finished(locate_model(path, "--model"))
    check_folder(folder, names=("config.json",))
    settings = read_settings(folder)
    if settings.get("model_type") == ADAPTER_TYPE:
        model = load_skeleton(base_of(folder, settings))
        model.adopt_settings(folder, settings)
    else:
        model = _family_of(folder, settings).loader().skeleton(folder, settings)
    model.source = str(path) if not Path(path).exists() else str(folder.resolve())
    model.was_trained = _is_run(settings)
    return model.eval()


def tokenizer_of(path: str | Path) -> Any:
    """The tokenizer of a model of any layout, without the model.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: Its tokenizer can't be read.
    """
    folder = finished(locate_model(path, "--model"))
    settings = read_settings(folder)
    if settings.get("model_type") == ADAPTER_TYPE:
        return tokenizer_of(base_of(folder, settings))
    if family := find_family(settings):
        return family.loader().tokenizer(folder, settings)
    own = folder / "language_model"
    return load_tokenizer(own if own.is_dir() else folder)


def family_of(path: str | Path) -> str:
    """Name of a model's family, from its `config.json`; empty for a folder that no family reads.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: Its configuration can't be read.
    """
    folder = finished(locate_model(path, "--model"))
    settings = read_settings(folder)
    if settings.get("model_type") == ADAPTER_TYPE:
        return family_of(base_of(folder, settings))
    family = find_family(settings)
    return "" if family is None else family.name


def _is_run(settings: dict[str, Any]) -> bool:
    """Whether a folder's `config.json` is of the result of a run."""
    return settings.get("model_type") == ADAPTER_TYPE or "training" in (settings.get("provenance") or {})


def _family_of(folder: Path, settings: dict[str, Any]) -> Family:
    """The family that reads a folder.

    Raises:
        CheckpointError: There is none.
    """
    family = find_family(settings)
    if family is None:
        raise CheckpointError(NO_MODEL.format(folder))
    return family


def finished(folder: Path) -> Path:
    """The model in a run directory, `final/`; any other folder is given back as it is.

    Raises:
        MissingFileError: The run has not come to its end.
    """
    if (folder / "metrics.jsonl").is_file():
        if not (folder / "final").is_dir():
            raise MissingFileError(f"The run in {folder} has no final/ yet; run the same `avem train` to its end.")
        return folder / "final"
    return folder


def base_of(folder: Path, settings: dict[str, Any]) -> str | Path:
    """The model that the result of a run was trained on: a folder beside it, or a hub id.

    Raises:
        MissingFileError: The folder is not there.
    """
    base = str(settings.get("base", ""))
    beside = folder / base
    if not base:
        raise MissingFileError(f"{folder / 'config.json'} names no base model; give another copy of this run.")
    if not beside.exists() and base.startswith("."):
        raise MissingFileError(
            f"{folder} needs the base model that it was trained on, which is not at {beside.resolve()}; if the run was "
            "moved or copied, put its base there too, or run `avem models merge RUN OUT` where both are, and take OUT."
        )
    return beside if beside.exists() else base


def _load_run(
    folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype, four_bit: bool
) -> FamilyModel:
    model = load_model(base_of(folder, settings), device, dtype, four_bit=four_bit)
    model.load_trained(folder, settings)
    return model


def read_settings(folder: Path) -> dict[str, Any]:
    """A model's `config.json`.

    Raises:
        MissingFileError: There is none.
        CheckpointError: It is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise MissingFileError(f"{folder} has no config.json, so it is not a model; give a model's folder.")
    try:
        settings: dict[str, Any] = read_json(path, dict)
    except DataError as error:
        raise CheckpointError(advise(error, "fetch the checkpoint again")) from error
    return settings
