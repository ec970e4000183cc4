"""The released low-rank adapters on a language model, through peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from avem.errors import CheckpointError
from avem.train.model.layers.lora_linear import merge_in_products
from avem.train.model.lora import quiet_peft

PEFT_PREFIX = "base_model.model."
"""In front of a layer's name in peft's files and modules."""

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.emotion_llama.checkpoint import ReleasedCheckpoint


def attach_adapters(
    language_model: PreTrainedModel, released: ReleasedCheckpoint, alpha: float, source: Path
) -> PeftModel:
    """Wrap a language model in adapters of the released rank and fill them; nothing of it takes gradients.

    Args:
        language_model: The Llama that they were trained on.
        released: Holds the adapters.
        alpha: The update is scaled by alpha / rank; no file says which it is.
        source: Where the adapters come from, for messages.

    Raises:
        CheckpointError: The language model has other layers, or layers of other sizes.
    """
    scaled: Any = alpha  # peft's annotation says int, its arithmetic takes any number
    config = LoraConfig(
        r=released.rank, lora_alpha=scaled, target_modules=list(released.targets), task_type="CAUSAL_LM"
    )
    language_model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]), quiet_peft():
        adapted = get_peft_model(language_model, config)
    fill_adapters(adapted, released.adapters, source)
    adapted.requires_grad_(False)
    merge_in_products(language_model)
    return adapted


def fill_adapters(adapted: PeftModel, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Copy matrices into peft's layers.

    Raises:
        CheckpointError: They are not those of the layers; the message names the first that differs.
    """
    own = adapter_parameters(adapted)
    advice = "give the language model that the checkpoint was trained on."
    if names := sorted(own.keys() ^ tensors.keys()):
        missing = "lacks" if names[0] in own else "has"
        raise CheckpointError(f"The adapters in {source} do not fit: the checkpoint {missing} {names[0]}; {advice}")
    for name, parameter in own.items():
        if parameter.shape != tensors[name].shape:
            raise CheckpointError(
                f"The adapters in {source} do not fit: {name} is {list(tensors[name].shape)} and the language model "
                f"needs {list(parameter.shape)}; {advice}"
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def adapter_parameters(adapted: PeftModel) -> dict[str, torch.nn.Parameter]:
    """The adapters' matrices by names such as `model.layers.0.self_attn.q_proj.lora_A`."""
    return {
        name.removeprefix(PEFT_PREFIX).removesuffix(".default.weight"): parameter
        for name, parameter in adapted.named_parameters()
        if ".lora_" in name
    }
