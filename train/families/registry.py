"""Which family a model's folder belongs to. A family's module is imported only when a model of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import torch

    from avem.train.families.base import FamilyModel


class FamilyLoader(Protocol):
    """What a family's module has to hold, as functions."""

    def load(
        self, folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype
    ) -> FamilyModel:
        """Read a whole model.

        Args:
            folder: The model.
            settings: Its `config.json`.
            device: Where the weights go.
            dtype: Their number format.

        Raises:
            MissingFileError: A file is missing.
            CheckpointError: It does not fit its configuration.
        """

    def skeleton(self, folder: Path, settings: dict[str, Any]) -> FamilyModel:
        """The same model with parameters that have shapes and no storage; no weight is read."""

    def tokenizer(self, folder: Path, settings: dict[str, Any]) -> Any:
        """The model's tokenizer alone."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of released model."""

    name: str
    module: str
    """Where its `FamilyLoader` is."""
    model_types: tuple[str, ...] = ()
    """Values of `model_type` in `config.json` that are its own."""
    architectures: tuple[str, ...] = ()
    """Values of `architectures` there that are its own."""

    def reads(self, settings: Mapping[str, Any]) -> bool:
        """Whether a `config.json` is one of this family's; what avem wrote names its `family`."""
        if named := settings.get("family"):
            return bool(named == self.name)
        architectures = settings.get("architectures")
        listed = architectures if isinstance(architectures, list) else []
        return settings.get("model_type") in self.model_types or any(name in self.architectures for name in listed)

    def loader(self) -> FamilyLoader:
        """Import the family."""
        return cast("FamilyLoader", import_module(self.module))


FAMILIES: list[Family] = [
    Family(
        "avere",
        "avem.train.families.avere.family",
        ("avere", "llava", "video_llava"),
        ("LlavaLlamaForCausalLM",),
    ),
    Family("qwen2_5_omni", "avem.train.families.qwen_omni.family", ("qwen2_5_omni", "qwen2_5_omni_thinker")),
    Family("qwen3_omni", "avem.train.families.qwen_omni.family", ("qwen3_omni_moe", "qwen3_omni_moe_thinker")),
    Family("emotion_llama", "avem.train.families.emotion_llama.family"),
    Family("generic", "avem.train.families.generic.family", ("avem",)),
]
"""One entry a family; the first that reads a configuration is taken."""


def find_family(settings: Mapping[str, Any]) -> Family | None:
    """The family of a model, from its `config.json`; None where there is none."""
    return next((family for family in FAMILIES if family.reads(settings)), None)
