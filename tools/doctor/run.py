"""The whole examination, one part after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from avem.errors import SettingError
from avem.progress import stage
from avem.tools.doctor.findings import Finding, Report
from avem.tools.doctor.kernels import kernels
from avem.tools.doctor.machine import machine, software
from avem.tools.doctor.step import packed_step
from avem.tools.doctor.store import read_speed


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What is examined."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` is the first GPU, or the CPU if there is none."""
    cache: Path | None = None
    """A store whose read speed is measured; None makes a temporary one."""


def examine(options: DoctorOptions) -> Report:
    """Try everything that avem needs of a machine.

    Args:
        options: The device and the store.

    Returns:
        Findings in the order software, machine, kernels, store, step.

    Raises:
        SettingError: The device is not there.
        MissingFileError: There is no store at `options.cache`.

    Example:
        >>> report = examine(DoctorOptions(device="cpu"))
        >>> report.problems
        []
    """
    device = _device(options.device)
    parts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("software", software),
        ("machine", partial(machine, device)),
        ("kernels", partial(kernels, device)),
        ("store", partial(read_speed, options.cache)),
        ("step", partial(packed_step, device)),
    ]
    findings: list[Finding] = []
    with stage("doctor", len(parts), unit="parts") as bar:
        for name, part in parts:
            findings += part()
            bar.advance(note=name)
    return Report(tuple(findings))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingError(f"--device is {name}; it must be auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingError(f"--device is {name}; it must be auto, cpu or cuda.")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise SettingError(
                f"--device is {name}, and torch finds {count} GPUs here; use --device cpu or another one."
            )
        return torch.device("cuda", device.index or 0)
    return device
