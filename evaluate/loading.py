"""From a model's name on the command line to something that can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avem.errors import MissingFileError, SettingError


def open_model(name_or_path: str, device: str = "auto", precision: str = "auto") -> Any:
    """Load a model that reads features.

    Args:
        name_or_path: A folder or a hub id.
        device: `cpu`, `cuda`, ...; `auto` takes a GPU if there is one.
        precision: `auto` (float32 on a CPU, else bfloat16), `float32`, `bfloat16` or `float16`.

    Raises:
        MissingFileError: There is no model.
        SettingError: There is no such precision.
    """
    import torch

    from avem.train import load_model

    check_model(name_or_path)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return load_model(name_or_path, device=device, dtype=choose_dtype(precision, device))


def check_model(name_or_path: str) -> None:
    """Refuse a path where nothing is.

    Raises:
        MissingFileError: There is nothing at the path.
    """
    if name_or_path.startswith((".", "/")) and not Path(name_or_path).exists():
        raise MissingFileError(
            f"There is no model at {name_or_path}; `avem train` makes one, or name one with --model."
        )


def choose_dtype(precision: str, device: str) -> Any:
    """The torch dtype that a precision means on a device.

    Raises:
        SettingError: There is no such precision.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    known["auto"] = torch.float32 if device == "cpu" else torch.bfloat16
    if precision not in known:
        raise SettingError(f"There is no precision {precision!r}; choose one of {', '.join(known)}.")
    return known[precision]


def short_names(models: Sequence[str]) -> list[str]:
    """A distinct short name for each model: its folder's, or the run's where that is `final` or a checkpoint."""
    names: list[str] = []
    for model in models:
        parts = [part for part in Path(model).parts if part not in ("final", "checkpoints", "result.json", "/", ".")]
        name = parts[-1] if parts else "model"
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names
