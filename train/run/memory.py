"""How much memory a run takes on each device, worked out before any weight is read.

Weights, gradients and optimiser follow from the shapes. Activations are counted, not guessed: the largest micro-batch
goes through the model with tensors that have shapes and no storage (`FakeTensorMode`), and what autograd would keep for
the backward pass is added up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers.modeling_layers import GradientCheckpointingLayer

from avem.train.model.quantise import four_bit_bytes

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
    optimiser: int
    activations: int
    """What autograd keeps of the largest micro-batch."""
    workspace: int
    """Twice the largest kept tensor, for its gradient and what is being computed from it."""
    features: int
    capacity: int
    """Of the device; 0 if unknown."""

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.workspace + self.features

    @property
    def fits(self) -> bool:
        """Whether the total leaves a tenth of the device free."""
        return self.total <= ROOM * self.capacity


@dataclass(slots=True)
class Kept:
    """Bytes that autograd keeps, each storage once, by where in the model they were kept."""

    layers: list[int] = field(default_factory=list)
    """Within each layer that can be checkpointed."""
    inputs: list[int] = field(default_factory=list)
    """What each of those layers is given, which is all that stays of it with checkpointing."""
    outside: int = 0
    largest: int = 0

    def total(self, checkpointed: bool) -> int:
        """Bytes at the end of the forward pass, and while one layer is computed again."""
        if checkpointed:
            return self.outside + sum(self.inputs) + max(self.layers, default=0)
        return self.outside + sum(self.layers)


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


def count_kept(model: FamilyModel, forward: Callable[[], Tensor]) -> Kept:
    """Count what autograd keeps of a forward pass.

    Args:
        model: A model; its parameters are not counted.
        forward: Runs the pass and gives what the backward pass would start from.
    """
    kept = Kept()
    seen = {_storage(parameter) for parameter in model.parameters()}
    open_layers: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        address = _storage(tensor)
        if address not in seen:
            seen.add(address)
            size = tensor.untyped_storage().nbytes()
            kept.largest = max(kept.largest, size)
            if open_layers:
                kept.layers[open_layers[-1]] += size
            else:
                kept.outside += size
        return tensor

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        open_layers.append(len(kept.layers))
        kept.layers.append(0)
        kept.inputs.append(sum(part.numel() * part.element_size() for part in inputs if isinstance(part, Tensor)))

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        open_layers.pop()

    layers = [part for part in model.language_model.modules() if isinstance(part, GradientCheckpointingLayer)]
    hooks = [
        hook
        for layer in layers
        for hook in (layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave))
    ]
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            result = forward()  # held until here, so that no storage's address is given to another tensor
    finally:
        for hook in hooks:
            hook.remove()
    del result
    return kept


def estimate_memory(
    model: FamilyModel,
    forward: Callable[[], Tensor],
    *,
    four_bit: bool = False,
    checkpointed: bool = False,
    processes: int = 1,
    features: int = 0,
    capacity: int = 0,
) -> MemoryEstimate:
    """Add up what a run takes on each device.

    Args:
        model: A model prepared for training: what learns takes gradients, in float32.
        forward: Runs the largest micro-batch through it.
        four_bit: Whether its linear layers will be kept in 4 bits.
        checkpointed: Whether layers are computed again in the backward pass.
        processes: That train together; with more than one, gradients are joined in one message of their size.
        features: Bytes of features on the device.
        capacity: Bytes of the device.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    learning = sum(parameter.numel() for parameter in trained)
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    kept = count_kept(model, forward)
    return MemoryEstimate(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained=learning,
        weights=weight_bytes(model, four_bit=four_bit),
        gradients=gradients * (2 if processes > 1 else 1),
        optimiser=learning * ADAM_BYTES,
        activations=kept.total(checkpointed),
        workspace=2 * kept.largest,
        features=features,
        capacity=capacity,
    )


def device_bytes(device: torch.device) -> int:
    """Memory of a device, all of it: a GPU's own, or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
