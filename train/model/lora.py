"""Low-rank adapters (Hu et al., 2022) on the language model, through peft."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from avem.errors import CheckpointError, SettingError
from avem.train.model.layers.lora_linear import merge_in_products

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


def add_lora(model: FamilyModel, rank: int = 8, scale: float = 4.0, *, dropout: float = 0.0, seed: int = 0) -> None:
    """Freeze a model and add trainable low-rank adapters to its language model, where the family says.

    An adapter that is already there is merged first.

    Args:
        model: A `FamilyModel`; its `lora_targets` say which layers.
        rank: Rank of the update; the paper's 8 (C.3).
        scale: Factor on the update, alpha / rank; the paper's 4 (C.3).
        dropout: Probability of dropping an adapter's input while training.
        seed: Decides the adapter's initial weights.

    Raises:
        SettingError: A number is out of range.
    """
    if rank < 1 or scale <= 0 or not 0 <= dropout < 1:
        raise SettingError(f"LoRA needs rank >= 1, scale > 0 and 0 <= dropout < 1, not {rank}, {scale} and {dropout}.")
    model.merge()
    model.requires_grad_(False)
    alpha: Any = rank * scale  # peft's annotation says int, its arithmetic takes any number
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, task_type="CAUSAL_LM", **model.lora_targets())
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)
        model.attach_adapter(get_peft_model(model.language_model, config))
    merge_in_products(model.language_model)


def load_adapter(model: FamilyModel, folder: Path, *, trainable: bool = False) -> None:
    """Read an adapter that `save_adapter` or peft wrote.

    Args:
        model: The `FamilyModel` that the adapter belongs to; an adapter that is already there is merged first.
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.
        trainable: Whether the adapter is trained further.

    Raises:
        CheckpointError: The adapter does not fit the language model.
    """
    if not (folder / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{folder} has no adapter_model.safetensors; copy the whole result of the run.")
    model.merge()
    model.requires_grad_(False)
    try:
        with quiet_peft():
            adapted = PeftModel.from_pretrained(model.language_model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The adapter in {folder} does not fit its base ({str(error).splitlines()[0]}); give the base it was "
            f"trained on."
        ) from error
    model.attach_adapter(adapted)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep a warning off the terminal that is meant for peft: it asks models by a name that transformers retires."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield
