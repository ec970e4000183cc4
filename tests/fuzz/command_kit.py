"""Running a command in this process, what it promises for broken input, and what may lie where a file is expected."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avem.cli import main

NODES: dict[str, Callable[[Path], None]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "loop": lambda path: path.symlink_to(path.name),
    "device": lambda path: path.symlink_to("/dev/zero"),
}
"""What can be put where a file is expected."""

HANGS_S = 30
"""A command that takes so long waits for a pipe or reads a device without an end."""


class Hangs(BaseException):
    """A command does not end; no `except OSError` in it catches this, as it would a `TimeoutError`."""


def _hangs(number: int, frame: object) -> None:
    raise Hangs


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command in this process.

    Returns:
        Its exit status and what it wrote to standard error.
    """
    monkeypatch.setattr(sys, "argv", ["avem", *arguments])
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANGS_S)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.alarm(0)
    return int(ended.value.code or 0), capsys.readouterr().err


def check(status: int, shown: str) -> None:
    """A command ended as promised: status 0, 2 or 3, and for 2 one sentence that is all of standard error's `avem:`."""
    assert "Traceback" not in shown, shown
    assert status in (0, 2, 3), shown
    said = [line for line in shown.splitlines() if line.startswith("avem: ")]
    assert status != 2 or len(said) == 1, shown
