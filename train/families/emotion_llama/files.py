"""Emotion-LLaMA in avem's layout: a Llama folder, the released adapters as peft's, projections, encoders.

config.json                  settings of the family
language_model/              the Llama, file for file as it was given
adapter_config.json, adapter_model.safetensors      the released adapters; peft loads them onto language_model/
projectors.safetensors       projections, and ln_vision where the released file held it
unread.safetensors           tensors of the released file that nothing reads, kept so that it can be written again
eva/, hubert/                the encoders, for `avem extract --for`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from avem import __version__
from avem.errors import CheckpointError, MissingFileError, SettingError
from avem.files import replace_directory
from avem.guards.output_kinds import ADAPTER, MODEL
from avem.sealed.checksums import write_checksums
from avem.train.families.emotion_llama.adapters import PEFT_PREFIX, attach_adapters, fill_adapters
from avem.train.families.emotion_llama.card import model_card
from avem.train.families.emotion_llama.checkpoint import ReleasedCheckpoint
from avem.train.families.emotion_llama.config import FAMILY, EmotionConfig
from avem.train.families.emotion_llama.projections import ProjectionSizes
from avem.train.families.generic.files import check_version, load_projectors
from avem.train.model.language_models import quiet_transformers
from avem.train.model.lora import load_adapter
from avem.train.model.saving import (
    ADAPTER_TYPE,
    FORMAT_VERSION,
    MODEL_TYPE,
    UNKNOWN_LICENCE,
    projector_state,
    refuse_unsaveable,
)
from avem.weights import read_safetensors

if TYPE_CHECKING:
    from avem.train.families.emotion_llama.model import EmotionLlama

TARGETS = ("q_proj", "v_proj")
"""Layers that the authors' adapters are on."""
LANGUAGE_MODEL, EVA, HUBERT = "language_model", "eva", "hubert"
"""Folders of a model."""
ADAPTERS, PROJECTIONS, UNREAD = "adapter_model.safetensors", "projectors.safetensors", "unread.safetensors"
"""Files of tensors."""
PREFIX = "projections."
"""In front of the released names in `projectors.safetensors`, as the model's own parameters have it."""


def read_config(folder: Path, settings: Mapping[str, Any]) -> EmotionConfig:
    """The family's part of a `config.json`.

    Raises:
        CheckpointError: It is of another format version, or does not describe an Emotion-LLaMA model.
    """
    check_version(folder, settings)
    return EmotionConfig.from_json(settings.get(FAMILY), str(folder / "config.json"))


def read_parts(folder: Path, config: EmotionConfig) -> ReleasedCheckpoint:
    """The released tensors of a model's folder.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: A file is damaged, or the adapters are of another rank than the configuration says.
    """
    projections = _projections(folder)
    adapters = read_adapters(folder) if config.lora_rank else {}
    unread = dict(_tensors(folder, UNREAD)) if (folder / UNREAD).is_file() else {}
    parts = ReleasedCheckpoint(projections, adapters, unread)
    if config.lora_rank and parts.rank != config.lora_rank:
        raise CheckpointError(
            f"The adapters in {folder} have the rank {parts.rank} and its config.json says {config.lora_rank}; import "
            "the released checkpoint again."
        )
    return parts


def read_sizes(folder: Path) -> ProjectionSizes:
    """Widths of a model's projections, from its file of them."""
    return ProjectionSizes.of(_projections(folder), folder / PROJECTIONS)


def read_adapters(folder: Path) -> dict[str, torch.Tensor]:
    """Adapters that peft or avem wrote, by names such as `model.layers.0.self_attn.q_proj.lora_A`.

    Raises:
        MissingFileError: There are none.
        CheckpointError: The file is damaged.
    """
    found = _tensors(folder, ADAPTERS)
    return {name.removeprefix(PEFT_PREFIX).removesuffix(".weight"): tensor for name, tensor in found}


def _projections(folder: Path) -> dict[str, torch.Tensor]:
    return {name.removeprefix(PREFIX): tensor for name, tensor in _tensors(folder, PROJECTIONS)}


def _tensors(folder: Path, name: str) -> list[tuple[str, torch.Tensor]]:
    if not (folder / name).is_file():
        raise MissingFileError(f"{folder} has no {name}; copy the complete model.")
    return list(read_safetensors(folder / name))


def write_parts(folder: Path, parts: ReleasedCheckpoint, config: EmotionConfig) -> None:
    """Write released tensors into a model's folder, bit for bit."""
    _save({f"{PREFIX}{name}": tensor for name, tensor in parts.projections.items()}, folder / PROJECTIONS)
    if parts.unread:
        _save(parts.unread, folder / UNREAD)
    if parts.adapters:
        _save({f"{PEFT_PREFIX}{name}.weight": tensor for name, tensor in parts.adapters.items()}, folder / ADAPTERS)
        scaled: Any = config.lora_alpha  # peft's annotation says int
        described = LoraConfig(
            r=config.lora_rank,
            lora_alpha=scaled,
            target_modules=list(config.lora_targets),
            task_type="CAUSAL_LM",
            base_model_name_or_path=LANGUAGE_MODEL,
            inference_mode=True,
        ).to_dict()
        described["target_modules"] = sorted(described["target_modules"])  # a set, whose order is chance
        text = json.dumps(described, indent=2, sort_keys=True, default=str)
        (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def write_settings(
    folder: Path, config: EmotionConfig, *, licence: str, provenance: dict[str, Any], base: str, adapter: bool = False
) -> None:
    """Write `config.json`, the model card and the checksums; call it last.

    Args:
        folder: A model's folder that is complete otherwise.
        config: Of the family.
        licence: As a Hugging Face identifier.
        provenance: What the card says about origin.
        base: What the weights come from: for the result of a run, where its base is.
        adapter: Whether this is the result of a run beside its base.
    """
    settings = {
        "model_type": ADAPTER_TYPE if adapter else MODEL_TYPE,
        "family": FAMILY,
        "format_version": FORMAT_VERSION,
        "avem_version": __version__,
        "base": base,
        FAMILY: config.to_json(),
        "licence": licence,
        "provenance": provenance,
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(config, licence, provenance), encoding="utf-8")
    write_checksums(folder)


def save_model(
    model: EmotionLlama,
    directory: Path,
    *,
    licence: str | None,
    provenance: dict[str, Any],
    language_model: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a whole model without adapters, and without encoders; an older model in that folder is replaced.

    Raises:
        SettingError: The model has adapters, or weights in 4 bits, or the folder holds something else.
        WriteError: The folder can't be written.
    """
    refuse_unsaveable(model)

    def fill(folder: Path) -> None:
        with quiet_transformers():
            model.language_model.save_pretrained(folder / LANGUAGE_MODEL, state_dict=language_model)
        model.tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
        _save({name: tensor.detach().cpu() for name, tensor in projector_state(model).items()}, folder / PROJECTIONS)
        base = Path(model.source).name if Path(model.source).is_absolute() else model.source
        given = licence or model.licence or UNKNOWN_LICENCE
        write_settings(folder, model.config, licence=given, provenance=provenance, base=base)

    replace_directory(directory, fill, MODEL)
    model.source = str(directory.resolve())


def save_adapter(model: EmotionLlama, directory: Path, *, provenance: dict[str, Any]) -> None:
    """Write what a run trained beside its base: adapters, if there are any, and projections that take gradients.

    Raises:
        SettingError: The base is in memory only, or the folder holds something else.
    """
    if not model.source:
        raise SettingError("The base model is in memory only; save it with `save` before saving an adapter to it.")

    def fill(folder: Path) -> None:
        base = model.source
        if Path(base).exists():
            base = os.path.relpath(base, directory.resolve())
        if model.peft_model is not None:
            model.peft_model.peft_config["default"].base_model_name_or_path = base
            model.peft_model.save_pretrained(folder, save_embedding_layers=False)  # True would ask the hub
        state = projector_state(model).items()
        trained = {name: tensor.detach().cpu() for name, tensor in state if tensor.requires_grad}
        if trained:
            _save(trained, folder / PROJECTIONS)
        licence = model.licence or UNKNOWN_LICENCE
        write_settings(folder, model.config, licence=licence, provenance=provenance, base=base, adapter=True)

    replace_directory(directory, fill, ADAPTER)


def load_trained(model: EmotionLlama, folder: Path, settings: Mapping[str, Any]) -> None:
    """Read what a run trained into its base: adapters that it trained further, or new ones, and projections.

    Raises:
        CheckpointError: It does not fit the base.
    """
    config = read_config(folder, settings)
    new = (folder / "adapter_config.json").is_file()
    if config.lora_rank:
        if model.peft_model is None or model.config.lora_rank != config.lora_rank:
            raise CheckpointError(
                f"The run in {folder} trained adapters of rank {config.lora_rank} further, and its base has none of "
                f"that rank; load it without 4 bits, on the base that it was trained on."
            )
        fill_adapters(model.peft_model, read_adapters(folder), folder)
    else:
        model.merge()
        if new:
            load_adapter(model, folder)
    model.config = config
    if (folder / PROJECTIONS).is_file():
        load_projectors(model, folder, needed=())


def load_parts(model: EmotionLlama, folder: Path, parts: ReleasedCheckpoint) -> None:
    """Put the released tensors of a model's folder into a model that has none yet.

    Raises:
        CheckpointError: They do not fit.
    """
    expected = model.projections.state_dict()
    optional = {name for name in expected if name.startswith("ln_vision.")}
    wrong = (expected.keys() ^ parts.projections.keys()) - optional
    wrong |= {name for name, one in parts.projections.items() if name in expected and one.shape != expected[name].shape}
    if wrong:
        raise CheckpointError(
            f"{folder / PROJECTIONS} does not hold the projections of one model ({', '.join(sorted(wrong)[:3])} is "
            "missing, unknown or misshapen); import the released checkpoint again."
        )
    model.projections.load_state_dict(parts.projections, strict=False)
    if parts.adapters:
        model.attach_adapter(attach_adapters(model.language_model, parts, model.config.lora_alpha, folder))


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
