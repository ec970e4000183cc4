"""Loading audiovisual models of every layout: AVERE's, avem's own, and the results of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from avem.errors import CheckpointError, DataError, MissingFileError
from avem.locate import locate_model
from avem.reading import advise, read_json
from avem.sealed.checksums import check_folder
from avem.train.checkpoints.tensors import report_faults
from avem.train.families.avere.checkpoint import empty_avere, is_avere, load_avere
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.config import AudiovisualConfig
from avem.train.model.language_models import empty_language_model, load_language_model
from avem.train.model.lora import load_adapter
from avem.train.model.quantise import check_four_bit, quantise_linears
from avem.train.model.saving import ADAPTER_TYPE, FORMAT_VERSION, MODEL_TYPE, check_model, projector_state
from avem.train.model.tokenizers import load_tokenizer
from avem.weights import read_safetensors

NO_MODEL = "{} is neither an AVERE checkpoint, an avem checkpoint nor the result of a run."


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    four_bit: bool = False,
) -> AudiovisualLM:
    """Load an audiovisual model: an AVERE checkpoint, an avem checkpoint, or the result of a run.

    Args:
        path: A folder, or a hub id.
        device: Where the weights go.
        dtype: Their number format.
        four_bit: Keep the language model's linear layers in 4 bits; on a GPU alone.

    Returns:
        The `AudiovisualLM` in evaluation mode.

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
        model = _load_whole(folder, settings, "cpu" if four_bit else device, dtype)
        if four_bit:
            quantise_linears(model.language_model, device)
            model.to(device)
    model.source = str(path) if not Path(path).exists() else str(folder.resolve())
    model.licence = str(settings.get("licence") or model.licence)
    model.was_trained = settings.get("model_type") == ADAPTER_TYPE or "training" in (settings.get("provenance") or {})
    return model.eval()


def load_skeleton(path: str | Path) -> AudiovisualLM:
    """A model as `load_model` would give it, without weights: parameters have shapes, and no storage.

    Args:
        path: A folder, or a hub id.

    Returns:
        The `AudiovisualLM` on the device `meta`, adapters left out, since training folds them in first.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: It is none of these layouts, or its configuration can't be understood.
    """
    folder = finished(locate_model(path, "--model"))
    check_folder(folder, names=("config.json",))
    settings = read_settings(folder)
    if settings.get("model_type") == ADAPTER_TYPE:
        model = load_skeleton(base_of(folder, settings))
        model.config = _config_of(folder, settings)
    elif is_avere(settings):
        model = empty_avere(folder, settings)
    elif settings.get("model_type") == MODEL_TYPE:
        with init_empty_weights(include_buffers=False):
            language_model, tokenizer = empty_language_model(folder / "language_model")
            model = AudiovisualLM(language_model, tokenizer, _config_of(folder, settings))
    else:
        raise CheckpointError(NO_MODEL.format(folder))
    model.source = str(path) if not Path(path).exists() else str(folder.resolve())
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
    own = folder / "language_model"
    return load_tokenizer(own if own.is_dir() else folder)


def _load_whole(
    folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype
) -> AudiovisualLM:
    """A model that needs no other."""
    if is_avere(settings):
        return load_avere(folder, settings, device, dtype)
    if settings.get("model_type") == MODEL_TYPE:
        return _load_own(folder, settings, device, dtype)
    raise CheckpointError(NO_MODEL.format(folder))


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
    if not base or (not beside.exists() and base.startswith(".")):
        raise MissingFileError(f"{folder} was trained on {base or 'an unnamed base'}, which is not there; put it back.")
    return beside if beside.exists() else base


def _load_own(folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> AudiovisualLM:
    config = _config_of(folder, settings)
    language_model, tokenizer = load_language_model(folder / "language_model", device, dtype)
    model = AudiovisualLM.create(language_model, tokenizer, config)
    model.avere_settings = settings.get("avere") or {}
    _load_projectors(model, folder, all_of_them=True)
    return model


def _load_run(
    folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype, four_bit: bool
) -> AudiovisualLM:
    model = load_model(base_of(folder, settings), device, dtype, four_bit=four_bit)
    model.config = _config_of(folder, settings)
    if (folder / "adapter_config.json").is_file():
        load_adapter(model, folder)
    if (folder / "projectors.safetensors").is_file():
        _load_projectors(model, folder, all_of_them=False)
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


def _config_of(folder: Path, settings: dict[str, Any]) -> AudiovisualConfig:
    version = settings.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{folder} has format version {version}; this avem reads {FORMAT_VERSION}, update it.")
    return AudiovisualConfig.from_json(settings.get("audiovisual", {}), where=str(folder / "config.json"))


def _load_projectors(model: AudiovisualLM, folder: Path, *, all_of_them: bool) -> None:
    """Copy a file's tensors into the projectors; with `all_of_them`, none may be missing."""
    path = folder / "projectors.safetensors"
    if not path.is_file():
        raise MissingFileError(f"{folder} has no projectors.safetensors; copy the complete model.")
    state, expected = dict(read_safetensors(path)), projector_state(model)
    report_faults(
        folder,
        missing=sorted(expected.keys() - state.keys()) if all_of_them else [],
        unknown=sorted(state.keys() - expected.keys()),
        misshapen=[name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape],
    )
    with torch.no_grad():
        for name, tensor in state.items():
            expected[name].copy_(tensor)
