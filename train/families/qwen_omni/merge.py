"""Folding adapters into a released checkpoint, tensor by tensor, without building the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from avem.hub.omni import OmniFolder
from avem.reading import read_json
from avem.train.families.qwen_omni import cards
from avem.train.families.qwen_omni.adapter import read_adapter
from avem.train.families.qwen_omni.files import add_updates, write_like


def merge(
    base: Path,
    adapters: Sequence[Path],
    directory: Path,
    *,
    dtype: torch.dtype | None = None,
    licence: str = "",
    provenance: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint that transformers, vLLM and avem read: the base with adapters folded in.

    Sums are taken in float32 and rounded once. Towers, talker and vocoder are copied as they are.

    Args:
        base: Full checkpoint, or a thinker alone; the new folder is of the same form.
        adapters: Folders of adapters, each trained on the one before.
        directory: The new folder; an older checkpoint that avem wrote there is replaced whole.
        dtype: Number format of the language model's weights; None keeps the base's.
        licence: For the model card.
        provenance: What the card says about origin.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: An adapter does not fit the base.
        SettingError: The folder holds something else, or what is read.
    """
    folder = OmniFolder.open(base)
    experts = int(getattr(folder.config.text_config, "num_experts", 0) or 0)
    change = add_updates(folder, [read_adapter(each, experts) for each in adapters])
    card = cards.merged_card(licence, provenance or {})
    write_like(folder, directory, change, dtype=dtype, card=card, settings=_settings(adapters))


def _settings(adapters: Sequence[Path]) -> dict[str, Any]:
    """What the last adapter that avem trained says of its prompts and features; nothing where none did."""
    for each in reversed(adapters):
        if (each / "config.json").is_file():
            found = read_json(each / "config.json", dict).get(cards.SETTINGS)
            return found if isinstance(found, dict) else {}
    return {}
