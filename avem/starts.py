"""Which model training starts from by default, and which known models have been preference-tuned already.

The paper's base was never released: `chaubeyG/AVERE-7B` is that base after AVEm-DPO. A run that starts from it trains
AVEm-DPO on top of AVEm-DPO, and its "base" is not the paper's base, so runs and tables say so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.reading import read_json

logger = logging.getLogger(__name__)

BASE = "Qwen/Qwen2.5-Omni-7B"
"""Released base that training starts from if no model is named and there is no `./base`."""
BASE_ENCODER = "qwen2_5_omni"
"""Name of the encoder in the streams that `BASE` reads."""
LOCAL_BASE = "./base"
DEFAULT_BASE = f"{LOCAL_BASE}, or {BASE}"
"""What `--help` shows as the default."""


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A model that preference training has already changed."""

    name: str
    """Short name."""
    method: str
    """How it was tuned, such as `AVEm-DPO`."""

    @property
    def label(self) -> str:
        """For tables: `AVERE-7B (already tuned with AVEm-DPO)`."""
        return f"{self.name} (already tuned with {self.method})"

    def to_json(self) -> dict[str, str]:
        """As a model card keeps it."""
        return {"name": self.name, "method": self.method}


RELEASED: dict[str, TunedModel] = {
    "chaubeyG/AVERE-7B": TunedModel("AVERE-7B", "AVEm-DPO"),
}
"""Released models that are tuned, by hub id."""


def default_model() -> str:
    """The model to start from if none is named: `./base` if that folder is there, else `BASE`."""
    return LOCAL_BASE if Path(LOCAL_BASE).is_dir() else BASE


def tuned_model(name_or_path: str) -> TunedModel | None:
    """What is known of a model that was preference-tuned before; None for every other model.

    Recognised are the released models of `RELEASED`, by hub id, in the Hugging Face cache, or in a folder of the
    same name, and what avem trained on preference rows, or trained from a tuned model.

    Args:
        name_or_path: A hub id or a folder.

    Example:
        >>> tuned_model("chaubeyG/AVERE-7B").label
        'AVERE-7B (already tuned with AVEm-DPO)'
        >>> tuned_model("Qwen/Qwen2.5-Omni-7B") is None
        True
    """
    if (known := released_tuned(name_or_path)) is not None:
        return known
    folder = Path(name_or_path).expanduser()
    for settings in (folder / "final" / "config.json", folder / "config.json"):
        if (found := _trained_by_avem(settings, folder)) is not None:
            return found
    return None


def released_tuned(name_or_path: str) -> TunedModel | None:
    """The released tuned model that a hub id, a folder of its name, or a snapshot in the hub's cache is."""
    for released, known in RELEASED.items():
        if name_or_path.lower() == released.lower() or _is_copy(Path(name_or_path), released):
            return known
    return None


def warn_if_tuned(name_or_path: str) -> None:
    """Log a warning if a run starts from a model that is tuned already."""
    if (start := tuned_model(name_or_path)) is not None:
        logger.warning(
            "%s is already tuned with %s: this run trains on top of that. Start from an untuned base such as %s to "
            "measure the method.",
            name_or_path,
            start.method,
            BASE,
        )


def _is_copy(path: Path, released: str) -> bool:
    """Whether a path names a download of a hub's model: `.../AVERE-7B`, or a snapshot in the cache."""
    owner, _, name = released.lower().partition("/")
    parts = [part.lower() for part in path.parts]
    return bool(parts) and (parts[-1] == name or f"models--{owner}--{name}" in parts)


def _trained_by_avem(file: Path, folder: Path) -> TunedModel | None:
    """What the settings of a model that avem wrote say about its training."""
    if not file.is_file():
        return None
    try:
        settings: dict[str, Any] = read_json(file, dict)
    except DataError:
        return None  # loading the model says what is wrong with it
    provenance = settings.get("provenance")
    if not isinstance(provenance, dict):
        return None
    training, start = provenance.get("training"), provenance.get("start")
    if isinstance(training, dict) and "prefs" in training:
        return TunedModel(_name(folder), "preference training of avem")
    if isinstance(start, dict) and {"name", "method"} <= start.keys():
        return TunedModel(_name(folder), str(start["method"]))
    return None


def _name(folder: Path) -> str:
    parts = [part for part in folder.parts if part not in ("final", "best", ".", "/")]
    return parts[-1] if parts else "model"
