"""The whole examination, one part after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from avem.guards.devices import find_device
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
    device = find_device(options.device)
    parts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("looking at programs", software),
        ("looking at the computer", partial(machine, device)),
        ("computing", partial(kernels, device)),
        ("reading", partial(read_speed, options.cache)),
        ("training a step", partial(packed_step, device)),
    ]
    findings: list[Finding] = []
    with stage("Checking", len(parts), unit="") as bar:
        for name, part in parts:
            bar.advance(0, note=name)
            findings += part()
            bar.advance(note="done" if part is parts[-1][1] else "")
    return Report(tuple(findings))
