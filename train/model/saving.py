"""Writing avem's own layouts.

A model folder holds `config.json`, `projectors.safetensors`, a model card, and `language_model/`, which is a complete
Hugging Face folder. The result of a run holds `config.json` with the path of its base, peft's adapter, and the
projectors where they were trained.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from avem import __version__
from avem.errors import SettingError
from avem.files import json_sha256, replace_directory
from avem.guards.output_kinds import ADAPTER, MODEL
from avem.sealed.checksums import check_folder, write_checksums
from avem.train.model.language_models import quiet_transformers
from avem.train.model.quantise import is_four_bit

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel
    from avem.train.model.audiovisual import AudiovisualLM

MODEL_TYPE, ADAPTER_TYPE = "avem", "avem-adapter"
FORMAT_VERSION = 1


UNKNOWN_LICENCE = "other"
"""What a model card says where nobody has named a licence."""


def refuse_unsaveable(model: FamilyModel) -> None:
    """Refuse to save a whole model whose weights are not all its own.

    Raises:
        SettingError: It has an adapter, or its weights are in 4 bits.
    """
    if model.peft_model is not None:
        raise SettingError("The model has an adapter; merge it first, or save the adapter alone.")
    if is_four_bit(model.language_model):
        raise SettingError("The model's weights are in 4 bits, which lose what they were; save one loaded without.")


def save_model(
    model: AudiovisualLM,
    directory: Path,
    *,
    licence: str | None,
    provenance: dict[str, Any],
    language_model: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a model in avem's layout; an older model in that folder is replaced whole.

    Args:
        model: An `AudiovisualLM` without adapter.
        directory: The new folder: absent, empty, or a model that avem wrote.
        licence: Licence of the weights for the model card, as a Hugging Face identifier; None keeps the one that the
            model came with, or says `other`.
        provenance: What the card says about origin: data, settings, seeds.
        language_model: Its weights by name, where the model itself holds a part of them only.

    Raises:
        SettingError: The model has an adapter, or weights in 4 bits, or the folder holds something else.
        WriteError: The folder can't be written.
    """
    refuse_unsaveable(model)
    licence = licence or model.licence or UNKNOWN_LICENCE

    def fill(folder: Path) -> None:
        with quiet_transformers():
            model.language_model.save_pretrained(folder / "language_model", state_dict=language_model)
        model.tokenizer.save_pretrained(folder / "language_model")
        _save_projectors(model, folder, only_trained=False)
        settings = {
            "model_type": MODEL_TYPE,
            "format_version": FORMAT_VERSION,
            "avem_version": __version__,
            "audiovisual": model.config.to_json(),
            "base": Path(model.source).name if Path(model.source).is_absolute() else model.source,
            "licence": licence,
            "provenance": provenance,
            "avere": model.avere_settings,
        }
        _write_json(folder / "config.json", settings)
        (folder / "README.md").write_text(model.card(licence, provenance), encoding="utf-8")
        write_checksums(folder)

    replace_directory(directory, fill, MODEL)
    model.source = str(directory.resolve())


def save_adapter(model: FamilyModel, directory: Path, *, provenance: dict[str, Any]) -> None:
    """Write what a run trained beside its base: the adapter, if there is one, and the projectors that take gradients.

    Args:
        model: A model that was loaded from, or saved to, a folder.
        directory: The new folder; an older result of a run there is replaced whole.
        provenance: Settings and data of the run.

    Raises:
        SettingError: The base is in memory only, or the folder holds something else.
    """
    if not model.source:
        raise SettingError("The base model is in memory only; save it with `save` before saving an adapter to it.")
    licence = model.licence or UNKNOWN_LICENCE

    def fill(folder: Path) -> None:
        base = model.source
        if Path(base).exists():
            base = os.path.relpath(base, directory.resolve())
        if model.peft_model is not None:
            model.peft_model.peft_config["default"].base_model_name_or_path = base
            model.peft_model.save_pretrained(folder, save_embedding_layers=False)  # True would ask the hub
        _save_projectors(model, folder, only_trained=True)
        settings = {
            "model_type": ADAPTER_TYPE,
            "format_version": FORMAT_VERSION,
            "avem_version": __version__,
            "base": base,
            **model.identity(),
            "licence": licence,
            "provenance": provenance,
        }
        _write_json(folder / "config.json", settings)
        (folder / "README.md").write_text(model.card(licence, provenance), encoding="utf-8")
        write_checksums(folder)

    replace_directory(directory, fill, ADAPTER)


def check_model(folder: Path) -> None:
    """Compare a model's folder with its checksums; one without, from elsewhere or from before them, passes.

    Args:
        folder: A model, or the result of a run. Its card may be edited.

    Raises:
        DataError: A file is missing or is not what was written; the message names it.
    """
    check_folder(folder, ignored=("README.md",))


def fingerprint(model: FamilyModel) -> str:
    """SHA-256 over all weights (an adapter included), the configurations, the prompt format and the tokenizer."""
    weights = {}
    for name, tensor in sorted(model.state_dict().items()):
        raw = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
        weights[name] = [str(tensor.dtype), list(tensor.shape), hashlib.sha256(raw).hexdigest()]
    adapter = model.peft_model.peft_config["default"].lora_alpha if model.peft_model is not None else None
    language_model = model.language_model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "dtype"):
        language_model.pop(name, None)
    return json_sha256(
        {
            "weights": weights,
            "lora_alpha": adapter,
            "language_model": json.loads(json.dumps(language_model, default=str)),
            "tokenizer": model.tokenizer.backend_tokenizer.to_str(),
            "chat_template": model.tokenizer.chat_template,
            **model.identity(),
        }
    )


def projector_state(model: FamilyModel) -> dict[str, torch.nn.Parameter]:
    """The projectors' parameters by name."""
    return {name: tensor for name, tensor in model.named_parameters() if not name.startswith("language_model.")}


def _save_projectors(model: FamilyModel, folder: Path, *, only_trained: bool) -> None:
    state = {
        name: tensor.detach().contiguous().cpu()
        for name, tensor in projector_state(model).items()
        if tensor.requires_grad or not only_trained
    }
    if state or not only_trained:
        save_file(state, folder / "projectors.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
