"""The released `checkpoint.pth`: what was trained, under the names that the authors' classes give it.

Its entry `model` holds the adapters' matrices, the projections, and two things that nothing reads: rotary buffers,
which older transformers versions saved, and a classifier whose loss was taken out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from avem.errors import CheckpointError
from avem.train.families.emotion_llama.projections import ProjectionSizes
from avem.weights import read_pytorch

UNREAD = re.compile(r"attention\.|llama_model\..*\.rotary_emb\.inv_freq$")
"""Names of tensors that are in the file and have no part in the model."""
PROJECTION = re.compile(r"(?:ln_vision|llama_proj|feats_llama_proj[123]|cls_tk_llama_proj)\.(?:weight|bias)$")
ADAPTER = re.compile(
    r"llama_model\.base_model\.model\.(?P<layer>model\.layers\.\d+\.\w+\.(?P<target>\w+))"
    r"\.lora_(?P<half>[AB])(?:\.default)?\.weight$"
)
"""An adapter's matrix; peft writes `.default` since 0.3, and the released file comes from 0.2."""
RELEASED_ADAPTER = "llama_model.base_model.model.{layer}.lora_{half}.weight"


@dataclass(frozen=True, slots=True)
class ReleasedCheckpoint:
    """The tensors of a released file, sorted by what they belong to."""

    projections: dict[str, torch.Tensor]
    """Projections, and `ln_vision` where the file holds it, by their released names."""
    adapters: dict[str, torch.Tensor]
    """`[rank, in]` and `[out, rank]` by names such as `model.layers.0.self_attn.q_proj.lora_A`."""
    unread: dict[str, torch.Tensor]
    """What has no part in the model, by its own name; written back as it is."""

    @property
    def sizes(self) -> ProjectionSizes:
        """Widths of the streams and the language model."""
        return ProjectionSizes.of(self.projections, "The checkpoint")

    @property
    def rank(self) -> int:
        """Rank of the adapters."""
        return next(len(tensor) for name, tensor in self.adapters.items() if name.endswith("lora_A"))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the adapted layers, such as `q_proj` and `v_proj`."""
        return tuple(sorted({name.split(".")[-2] for name in self.adapters}))

    def released(self) -> dict[str, torch.Tensor]:
        """All tensors under their released names."""
        adapters = {released_name(name): tensor for name, tensor in self.adapters.items()}
        return {**adapters, **self.projections, **self.unread}


def released_name(name: str) -> str:
    """The name in the released file of an adapter's matrix.

    Example:
        >>> released_name("model.layers.0.self_attn.q_proj.lora_A")
        'llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'
    """
    layer, half = name.rsplit(".lora_", 1)
    return RELEASED_ADAPTER.format(layer=layer, half=half)


def read_released(path: Path) -> ReleasedCheckpoint:
    """Read a released `.pth` file, running no code from it.

    Args:
        path: Holds a dictionary with the entry `model`; optimizer, settings and epoch beside it are passed over.

    Raises:
        CheckpointError: It is damaged, holds more than tensors and plain values, is not an Emotion-LLaMA checkpoint,
            or has adapters of several ranks; tensors that no part of the model takes are named.
    """
    content = read_pytorch(path).get("model")
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} has no entry `model` of tensors, so it is not an Emotion-LLaMA checkpoint.")
    return sort_tensors(content, path)


def sort_tensors(tensors: dict[str, torch.Tensor], source: Path) -> ReleasedCheckpoint:
    """Sort released tensors by what they belong to; raises as `read_released`."""
    projections, adapters, unread, unknown = {}, {}, {}, []
    for name, tensor in tensors.items():
        if match := ADAPTER.match(name):
            adapters[f"{match['layer']}.lora_{match['half']}"] = tensor
        elif PROJECTION.match(name):
            projections[name] = tensor
        elif UNREAD.match(name):
            unread[name] = tensor
        else:
            unknown.append(name)
    if unknown:
        shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        raise CheckpointError(f"{source} holds tensors that no part of Emotion-LLaMA takes: {shown}.")
    found = ReleasedCheckpoint(projections, adapters, unread)
    ProjectionSizes.of(projections, source)
    _check_adapters(found, source)
    return found


def _check_adapters(found: ReleasedCheckpoint, source: Path) -> None:
    if not found.adapters:
        raise CheckpointError(f"{source} holds no low-rank adapters, so it is not an Emotion-LLaMA checkpoint.")
    ranks = set()
    for name, tensor in found.adapters.items():
        layer, half = name.rsplit(".lora_", 1)
        if f"{layer}.lora_{'B' if half == 'A' else 'A'}" not in found.adapters or tensor.ndim != 2:
            raise CheckpointError(f"{source} has {released_name(name)} without the matrix that belongs to it.")
        ranks.add(tensor.shape[0 if half == "A" else 1])
    if len(ranks) > 1:
        raise CheckpointError(
            f"{source} has adapters of the ranks {', '.join(map(str, sorted(ranks)))}; one is needed."
        )
