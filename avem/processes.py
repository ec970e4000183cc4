"""Processes that work for another one."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from threading import Thread


def end_with_parent() -> None:
    """End this process where the one that gave it work is killed; what it had not finished is done another time."""
    Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
