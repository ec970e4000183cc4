"""Names of a thinker's tensors: in avem's language model, in the released files, and in adapters.

Released files name every expert by itself, `mlp.experts.3.gate_proj.weight`. transformers 5 keeps all experts of a
layer in two parameters: `mlp.experts.gate_up_proj` `[E, 2 I, H]`, where `gate_proj` comes first, and
`mlp.experts.down_proj` `[E, H, I]`. A thinker that transformers holds in memory puts `language_model.` behind `model.`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

Part = Literal["gate_proj", "up_proj", "down_proj"]
_EXPERT = re.compile(r"(?P<layer>.*\.mlp\.experts)\.(?P<expert>\d+)\.(?P<part>gate_proj|up_proj|down_proj)\.weight")


@dataclass(frozen=True, slots=True)
class ExpertWeight:
    """One expert's matrix inside a parameter that holds all experts of a layer."""

    parameter: str
    """`model.layers.0.mlp.experts.gate_up_proj`, say."""
    expert: int
    part: Part

    @classmethod
    def find(cls, name: str) -> ExpertWeight | None:
        """What a released name stands for; None where it is no expert's."""
        if not (match := _EXPERT.fullmatch(name)):
            return None
        part: Part = match["part"]  # type: ignore[assignment]  # the pattern names the three
        stacked = "down_proj" if part == "down_proj" else "gate_up_proj"
        return cls(f"{match['layer']}.{stacked}", int(match["expert"]), part)

    def within(self, stacked: torch.Tensor) -> torch.Tensor:
        """The matrix as a view of the parameter `[E, out, in]`."""
        matrix = stacked[self.expert]
        half = matrix.shape[0] // 2
        if self.part == "down_proj":
            return matrix
        return matrix[:half] if self.part == "gate_proj" else matrix[half:]

    def shape(self, stacked: tuple[int, ...]) -> tuple[int, ...]:
        """The matrix's shape, from the parameter's."""
        return (stacked[1] if self.part == "down_proj" else stacked[1] // 2, stacked[2])


def own_name(name: str, prefix: str) -> str | None:
    """The name in a `ThinkerLanguageModel` of a tensor in a folder; None where it belongs to another part.

    Args:
        name: As the file has it.
        prefix: What the thinker's tensors begin with there: `thinker.` or nothing.

    Example:
        >>> own_name("thinker.model.layers.0.self_attn.q_proj.bias", "thinker.")
        'model.layers.0.self_attn.q_proj.bias'
        >>> own_name("thinker.visual.merger.mlp.0.weight", "thinker.")
    """
    if not name.startswith(prefix):
        return None
    inside = name.removeprefix(prefix).replace("model.language_model.", "model.", 1)
    if inside == "lm_head.weight" or re.match(r"model\.(layers|embed_tokens|norm)\.", inside):
        return inside
    return None


def released_tensor(name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """A tensor under its released name out of a language model's weights; None where they do not hold it."""
    if name in state:
        return state[name]
    found = ExpertWeight.find(name)
    return found.within(state[found.parameter]) if found and found.parameter in state else None
