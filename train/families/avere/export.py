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
SPEECH_TOWER = "openai/whisper-large-v3"
"""Encoder that a checkpoint with a new speech projector names, D.2's; the authors' loader needs some name."""


def save_avere(
    model: AudiovisualLM, directory: str | Path, towers: str | Path | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a model as an AVERE checkpoint; one that avem wrote there before is replaced whole.

    A Video-LLaVA comes back as it was. One that was given an audio projector becomes an AVERE checkpoint: it has the
    same names, with a speech projector and its settings.

    Args:
        model: An `AudiovisualLM` around a Llama, without adapter.
        directory: The new folder.
        towers: An AVERE checkpoint that gives what a model does not hold: the encoders' weights, saved buffers and the
            tokenizer's files. Default: where the model was loaded from.
        dtype: Number format of the model's weights; default: for each tensor the one that it has in that checkpoint,
            and for others the one that its configuration names.

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
    if model.audio_projector is not None and not settings.get("speech_projector_type"):
        settings |= _speech_settings(model)
    number_format = dtype or getattr(torch, str(settings.get("torch_dtype", "float32")).removeprefix("torch."))
    kept: dict[str, torch.Tensor] = {}
    formats: dict[str, torch.dtype] = {}  # a checkpoint may keep its projectors in another format than the rest
    for name, tensor in read_tensors(donor):
        formats[name] = tensor.dtype
        if IGNORED.match(name):
            kept[name] = tensor
    state = {}
    for ours, tensor in model.state_dict().items():
        name = avere_name(ours)
        state[name] = tensor.detach().to("cpu", dtype or formats.get(name, number_format))
    state |= kept

    def fill(folder: Path) -> None:
        save_torch_state_dict(state, folder)
        if dtype is not None or "torch_dtype" not in settings:
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


def _speech_settings(model: AudiovisualLM) -> dict[str, Any]:
    """What AVERE's configuration says about sound, and that of a Video-LLaVA does not."""
    audio = {name: getattr(model.config, name) for name in QFORMER_FIELDS if "video" not in name}
    return {
        **audio,
        "model_type": "avere",
        "speech_hidden_size": model.config.audio_hidden_size,
        "speech_projector_type": PROJECTORS[model.config.audio_projector],
        "mm_speech_tower": SPEECH_TOWER,
        "use_speech_proj": True,
    }


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
