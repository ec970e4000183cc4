"""Where a command computes: the device that `--device` names, refused in one sentence where it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avem.errors import SettingError

if TYPE_CHECKING:
    import torch


def find_device(name: str, *, option: str = "--device", otherwise: str = "") -> torch.device:
    """The device of a name.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, ...; `auto` is the first GPU, or the CPU if there is none.
        option: What the user set, for messages.
        otherwise: What to use where the GPU is not there; by default the option with `cpu`.

    Returns:
        `cpu`, or a GPU with its number.

    Raises:
        SettingError: It is no such name, or torch finds no such GPU.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingError(f"{option} is {name}; it must be auto, cpu, cuda or cuda:1.") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingError(f"{option} is {name}; it must be auto, cpu, cuda or cuda:1.")
    if device.type == "cpu":
        return torch.device("cpu")
    if (device.index or 0) >= count:
        found = "no GPU" if not count else "1 GPU" if count == 1 else f"{count} GPUs"
        raise SettingError(f"{option} is {name}, and torch finds {found} here; use {otherwise or f'{option} cpu'}.")
    return torch.device("cuda", device.index or 0)
