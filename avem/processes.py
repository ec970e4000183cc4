"""Processes that work for another one."""

from __future__ import annotations

import os
import sys
from multiprocessing import parent_process
from threading import Thread


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python.

    The current folder is not searched (`-P`): in a clone, its `avem/` would hide the installed package.

    Example:
        >>> module_command("avem", "doctor")[1:]
        ['-P', '-m', 'avem', 'doctor']
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def end_with_parent() -> None:
    """End this process where the one that gave it work is killed; what it had not finished is done another time."""
    Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
