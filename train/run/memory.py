"""How much memory a run takes on each device, worked out before any weight is read.

Weights and optimiser follow from the shapes. The rest is run, not guessed: the largest micro-batch goes through the
model and back with tensors that have shapes and no storage (`FakeTensorMode`), and what lives at the fullest moment is
added up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from avem.train.model.quantise import four_bit_bytes
from avem.train.run.live_bytes import LiveBytes

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

ROOM = 0.9
"""Share of a device's memory that a run may be planned for; the rest is for its context and for fragments."""
ADAM_BYTES = 8
"""Two moments in float32."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on each device (GPU, or this machine's memory for a run without one)."""

    parameters: int
    """Number of weights, adapters included."""
    trained: int
    """How many of them learn."""
    weights: int
    """Bytes of all weights, those that learn in float32."""
    gradients: int
    """Of all weights that learn."""
    optimiser: int
    activations: int
    """What a step holds at its fullest moment beyond weights, optimiser, features and a complete set of gradients.

    In a step of one micro-batch, gradients are made while activations are freed, so this may be less than autograd
    keeps.
    """
    features: int
    capacity: int
    """Of the device; 0 if unknown."""

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.features

    @property
    def fits(self) -> bool:
        """Whether the total leaves a tenth of the device free."""
        return self.total <= ROOM * self.capacity


def weight_bytes(model: FamilyModel, *, four_bit: bool = False) -> int:
    """Bytes of a model's parameters in their own number formats, with or without its linear layers in 4 bits."""
    packed: set[int] = set()
    if four_bit:
        language_model = model.language_model
        output = language_model.get_output_embeddings()
        linears = (part for part in language_model.modules() if isinstance(part, nn.Linear) and part is not output)
        packed = {id(part.weight) for part in linears if not part.weight.requires_grad}
    return sum(
        four_bit_bytes(weight.numel()) if id(weight) in packed else weight.numel() * weight.element_size()
        for weight in model.parameters()
    )


def make_weightless(model: FamilyModel) -> None:
    """Give a skeleton parameters that every operation takes and none computes with; what comes of them is alike.

    Args:
        model: A model on the device `meta`, which operations on several devices would refuse.
    """
    made: dict[int, nn.Parameter] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, old in module.named_parameters(recurse=False):
                if id(old) not in made:
                    made[id(old)] = nn.Parameter(torch.empty(old.shape, dtype=old.dtype), old.requires_grad)
                setattr(module, name, made[id(old)])


def pass_bytes(model: FamilyModel, forward: Callable[[], Tensor], *, accumulates: bool = False) -> int:
    """Most bytes that a forward and backward pass hold at once beside the model's parameters, gradients included.

    Args:
        model: What learns takes gradients; its parameters may be without storage.
        forward: Runs the forward pass and gives what the backward pass starts from.
        accumulates: Whether an earlier micro-batch of the same step has left gradients.
    """
    with LiveBytes(model.parameters()) as live:
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter) if accumulates and parameter.requires_grad else None
        torch.autograd.backward(forward().sum())
        most: int = live.most
    model.zero_grad(set_to_none=True)
    return most


def estimate_memory(
    model: FamilyModel,
    forward: Callable[[], Tensor],
    *,
    four_bit: bool = False,
    accumulates: bool = False,
    processes: int = 1,
    features: int = 0,
    capacity: int = 0,
) -> MemoryEstimate:
    """Add up what a run takes on each device.

    Args:
        model: A model prepared for training: what learns takes gradients, in float32, and layers are checkpointed where
            the run does so.
        forward: Runs the largest micro-batch through it.
        four_bit: Whether its linear layers will be kept in 4 bits.
        accumulates: Whether a step has several micro-batches.
        processes: That train together; with more than one, gradients are joined in one message of their size.
        features: Bytes of features on the device.
        capacity: Bytes of the device.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    learning = sum(parameter.numel() for parameter in trained)
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained) * (2 if processes > 1 else 1)
    held = pass_bytes(model, forward, accumulates=accumulates)
    return MemoryEstimate(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained=learning,
        weights=weight_bytes(model, four_bit=four_bit),
        gradients=gradients,
        optimiser=learning * ADAM_BYTES,
        activations=max(held - gradients, 0),
        features=features,
        capacity=capacity,
    )


def device_bytes(device: torch.device) -> int:
    """Memory of a device, all of it: a GPU's own, or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
