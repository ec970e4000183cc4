"""The harnesses that avem writes tasks for and whose logs it reads, one file each."""

from __future__ import annotations

from pathlib import Path

from avem.errors import SettingError
from avem.evaluate.harness import inspect, lmms_eval, vlmevalkit
from avem.evaluate.harness.base import Harness

HARNESSES: dict[str, Harness] = {module.HARNESS.name: module.HARNESS for module in (lmms_eval, vlmevalkit, inspect)}
"""Harnesses by name, in the order in which logs are recognised."""


def find_harness(name: str) -> Harness:
    """A harness by name.

    Raises:
        SettingError: There is none of that name; the message lists them.
    """
    if name not in HARNESSES:
        raise SettingError(f"--to {name} is not known; known are {', '.join(HARNESSES)}.")
    return HARNESSES[name]


def harness_of_log(path: Path) -> Harness | None:
    """The harness that wrote a log of answers; None for any other file."""
    return next((harness for harness in HARNESSES.values() if harness.recognises(path)), None)
