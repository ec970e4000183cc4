"""Giving a model back to the authors' tools: writing the AVERE layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import save_torch_state_dict

from avem.errors import MissingFileError, SettingError
from avem.files import replace_directory
from avem.guards.output_kinds import AVERE
from avem.locate import locate_model
from avem.reading import read_json
from avem.sealed.checksums import write_checksums
from avem.train.families.avere.checkpoint import IGNORED, LLAMA_FIELDS, QFORMER_FIELDS, avere_name, is_avere
from avem.weights import read_tensors

if TYPE_CHECKING:
    from avem.train.model.audiovisual import AudiovisualLM

COMPANIONS = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)
"""Files that are copied as they are from the checkpoint that gives the encoders."""
PROJECTORS = {"qformer": "qformer", "stack-mlp": "mlp"}


def save_avere(
    model: AudiovisualLM, directory: str | Path, towers: str | Path | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a model as an AVERE checkpoint; one that avem wrote there before is replaced whole.

    Args:
        model: An `AudiovisualLM` around a Llama, without adapter.
        directory: The new folder.
        towers: An AVERE checkpoint that gives what a model does not hold: the encoders' weights, saved buffers and the
            tokenizer's files. Default: where the model was loaded from.
        dtype: Number format of the model's weights; default: the one the AVERE configuration names.

    Raises:
        SettingError: The model has an adapter, or is not a Llama, or the folder holds something else.
        MissingFileError: There is no AVERE checkpoint to take the encoders from.
    """
    if model.peft_model is not None:
        raise SettingError("The model has an adapter; merge it before saving an AVERE checkpoint.")
    if model.language_model.config.model_type != "llama":
        raise SettingError(f"AVERE checkpoints hold a Llama, not a {model.language_model.config.model_type}.")
    donor, donor_settings = _find_donor(towers or model.source)
    settings = {**donor_settings, **(model.avere_settings or _settings(model))}
    number_format = dtype or getattr(torch, str(settings.get("torch_dtype", "float32")).removeprefix("torch."))
    state = {avere_name(name): tensor.detach().to("cpu", number_format) for name, tensor in model.state_dict().items()}
    state |= {name: tensor for name, tensor in read_tensors(donor) if IGNORED.match(name)}

    def fill(folder: Path) -> None:
        save_torch_state_dict(state, folder)
        settings["torch_dtype"] = str(number_format).removeprefix("torch.")
        (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name in COMPANIONS:
            if (donor / name).is_file():
                shutil.copyfile(donor / name, folder / name)
        write_checksums(folder)

    replace_directory(Path(directory), fill, AVERE, reads=[donor])


def _find_donor(name: str | Path) -> tuple[Path, dict[str, Any]]:
    """The AVERE checkpoint that gives the encoders, and its configuration."""
    if name:
        folder = locate_model(name, "towers=")
        path = folder / "config.json"
        settings = read_json(path, dict) if path.is_file() else {}
        if is_avere(settings):
            return folder, settings
    raise MissingFileError(
        f"The encoders' weights can't be copied: {name or 'a model made in memory'} is not an AVERE checkpoint; "
        f"name one with towers=."
    )


def _settings(model: AudiovisualLM) -> dict[str, Any]:
    """What an AVERE configuration says about a model that was not loaded from one."""
    language_model, config = model.language_model.config, model.config
    rope = dict(language_model.rope_parameters)
    theta = rope.pop("rope_theta", 10000.0)
    rope_type = rope.pop("rope_type", "default")
    return {
        **{name: getattr(language_model, name) for name in LLAMA_FIELDS},
        **{name: getattr(config, name) for name in QFORMER_FIELDS},
        "rope_theta": theta,
        "rope_scaling": None if rope_type == "default" else {"type": rope_type, **rope},
        "mm_hidden_size": config.video_hidden_size,
        "mm_projector_type": config.video_projector,
        "speech_hidden_size": config.audio_hidden_size,
        "speech_projector_type": PROJECTORS.get(config.audio_projector),
        "tokenizer_model_max_length": model.context_length,
    }
