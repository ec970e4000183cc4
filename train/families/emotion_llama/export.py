"""Giving a model back to the authors' tools: the released `.pth` layout.

Their loader reads what is there and passes over the rest (`strict=False`), so what a file lacks or holds too much is
never said. `ExportReport` says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from avem.errors import CheckpointError, SettingError
from avem.files import write_new
from avem.locate import locate_model
from avem.reading import read_json
from avem.train.checkpoints.load import base_of, finished, read_settings
from avem.train.families.emotion_llama.checkpoint import ReleasedCheckpoint
from avem.train.families.emotion_llama.config import FAMILY, EmotionConfig
from avem.train.families.emotion_llama.files import (
    PREFIX,
    PROJECTIONS,
    read_adapters,
    read_config,
    read_parts,
)
from avem.train.model.saving import ADAPTER_TYPE, check_model
from avem.weights import read_safetensors

FROZEN = ("llama_model (the base language model)", "visual_encoder (EVA-CLIP-g)")
"""What the authors' class has and their files never hold; they load it from files of its own."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    path: Path
    rank: int
    """Of the adapters; `lora_r` in the authors' settings has to be this."""
    alpha: float
    """`lora_alpha` in the authors' settings has to be this."""
    missing: tuple[str, ...]
    """Parts of the authors' class that the file does not hold, so that they stay as they are made or are read from
    files of their own."""
    surplus: tuple[str, ...]
    """Names in the file that no computation of the authors' class reads."""


def export_released(source: str | Path, path: Path) -> ExportReport:
    """Write a model, or the result of a run, in the released layout.

    Adapters that a run added to the released ones become one with them: their ranks add up, and the scale stays the
    released one. The tensors of a model that was only imported are written bit for bit.

    Args:
        source: A model's folder or a run.
        path: The new `.pth` file.

    Raises:
        MissingFileError: A part of the model is not there.
        CheckpointError: It is not an Emotion-LLaMA model, or its parts do not fit each other.
        SettingError: The adapters were folded into the language model, adapters are on layers of which the layout
            knows none, or there is another file at the path.
    """
    folder = finished(locate_model(source, "MODEL"))
    parts, config = _collect(folder)
    buffer = BytesIO()
    torch.save({"model": parts.released()}, buffer)
    write_new(path, buffer.getvalue(), reads=[source, folder])
    missing = FROZEN if "ln_vision.weight" in parts.projections else (*FROZEN, "ln_vision (stays weight 1, bias 0)")
    if not any(name.startswith("attention.") for name in parts.unread):
        missing = (*missing, "attention (unused)")
    return ExportReport(path, config.lora_rank, config.lora_alpha, missing, tuple(sorted(parts.unread)))


def _collect(folder: Path) -> tuple[ReleasedCheckpoint, EmotionConfig]:
    """The released tensors of a model, with what runs on top of it trained."""
    check_model(folder)
    settings = read_settings(folder)
    if settings.get("family") != FAMILY:
        raise CheckpointError(f"{folder} is not an Emotion-LLaMA model, so it can't be written in that layout.")
    config = read_config(folder, settings)
    if settings.get("model_type") != ADAPTER_TYPE:
        if not config.lora_rank:
            raise SettingError(
                f"The adapters in {folder} were folded into its language model, of which the released layout holds "
                "nothing; export the run that was trained with adapters."
            )
        return read_parts(folder, config), config
    parts, base_config = _collect(finished(locate_model(base_of(folder, settings), "base")))
    parts = replace(parts, projections={**parts.projections, **_trained_projections(folder)})
    if not (folder / "adapter_config.json").is_file():
        return parts, base_config
    if config.lora_rank:  # the run trained the released adapters further
        return replace(parts, adapters=read_adapters(folder)), base_config
    return _joined(parts, base_config, folder)


def _trained_projections(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / PROJECTIONS
    found = dict(read_safetensors(path)) if path.is_file() else {}
    return {name.removeprefix(PREFIX): tensor for name, tensor in found.items()}


def _joined(parts: ReleasedCheckpoint, config: EmotionConfig, folder: Path) -> tuple[ReleasedCheckpoint, EmotionConfig]:
    """Released adapters and those of a run as one: s (B A) + t (D C) = s [B, (t / s) D] [A; C]."""
    own = read_adapters(folder)
    ratio = _scale(folder) / config.lora_scale
    if own.keys() != parts.adapters.keys():
        strange = sorted(own.keys() ^ parts.adapters.keys())[0]
        raise SettingError(
            f"The adapters in {folder} are on other layers than the released ones (such as {strange}), which the "
            "released layout can't hold; merge the run with `avem models merge` instead."
        )
    joined = {}
    for name, tensor in parts.adapters.items():
        more = own[name].to(tensor.dtype)
        joined[name] = torch.cat([tensor, more]) if name.endswith("lora_A") else torch.cat([tensor, ratio * more], 1)
    found = replace(parts, adapters=joined)
    return found, replace(config, lora_rank=found.rank, lora_alpha=config.lora_scale * found.rank)


def _scale(folder: Path) -> float:
    """Alpha / rank of the adapters of a run."""
    values: Mapping[str, Any] = read_json(folder / "adapter_config.json", dict)
    try:
        return float(values["lora_alpha"]) / int(values["r"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{folder / 'adapter_config.json'} names no rank and alpha; copy the run again."
        ) from error
