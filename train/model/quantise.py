"""4-bit weights through bitsandbytes (NF4, scales quantised too; Dettmers et al., 2023), below adapters that learn."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import nn

from avem.errors import SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64
"""Weights that share one scale."""


FOUR_BIT_MARK = "is_loaded_in_4bit"
"""Attribute of a language model by which peft knows which kind of adapter to make."""


def check_four_bit(device: str | torch.device) -> None:
    """Refuse 4-bit weights where they are not available.

    Raises:
        SettingError: The device is not a GPU, or bitsandbytes is not installed.
    """
    if torch.device(device).type != "cuda":
        raise SettingError(f"4-bit weights need an NVIDIA GPU and the device is {device}; load the model without them.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SettingError("4-bit weights need the package bitsandbytes; install it with `pip install 'avem[4bit]'`.")


def quantise_linears(language_model: PreTrainedModel, device: str | torch.device) -> None:
    """Put a language model on a device with its linear layers in 4 bits, all but the output layer.

    One layer is converted at a time, so the model is never on the device in full in its own number format.

    Args:
        language_model: A transformers model, its weights in memory or mapped from a file.
        device: Where it goes; products are taken in the number format that the weights had.
    """
    import bitsandbytes

    output = language_model.get_output_embeddings()
    linears = [
        (parent, name, child)
        for parent in language_model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child is not output
    ]
    for parent, name, linear in linears:
        made = bitsandbytes.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=linear.weight.dtype,
            quant_type="nf4",
            device="meta",
        )
        made.weight = bitsandbytes.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", module=made)
        made.bias = linear.bias
        setattr(parent, name, made.to(device))
    nn.Module.to(language_model, device)
    setattr(language_model, FOUR_BIT_MARK, True)


def is_four_bit(language_model: PreTrainedModel) -> bool:
    """Whether `quantise_linears` has converted a model."""
    return bool(getattr(language_model, FOUR_BIT_MARK, False))


def four_bit_bytes(weights: int) -> int:
    """Bytes that so many weights of one matrix take: half a byte each, and a scale for every 64.

    Scales are themselves kept in 8 bits, with a float32 scale for every 256 of them, a float32 offset, and tables of 16
    and 256 float32 values.
    """
    scales = -(-weights // BLOCK)  # rounded up
    return -(-weights // 2) + scales + 4 * -(-scales // 256) + 4 + 4 * (16 + 256)
