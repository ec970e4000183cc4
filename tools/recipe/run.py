"""Run a recipe's steps one after the other; a stopped run resumes, and the first thing that is missing ends it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avem.errors import AvemError, DataError, MissingFileError, PartialFailure
from avem.files import json_sha256, write_atomic
from avem.guards.output_kinds import RECIPE
from avem.guards.ownership import opened
from avem.processes import module_command
from avem.reading import read_bytes
from avem.sealed.files import read_sealed, write_sealed
from avem.tools.recipe.steps import JOIN, Step

RECORD = "recipe.json"
"""File of a recipe's folder that says which steps are done."""
PARTIAL, INTERRUPTED = PartialFailure.exit_status, 130


class StepFailed(AvemError):
    """A step of a recipe ended with an error, which it has said itself."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_status = status


def run_steps(
    steps: Sequence[Step],
    out: Path,
    say: Callable[[str], None],
    reads: Sequence[str | Path] = (),
    launch: Callable[[Sequence[str]], int] | None = None,
) -> None:
    """Run all steps that are not done.

    A step is done if it ended well before with the same command, and what it makes is there.

    Args:
        steps: In their order.
        out: The recipe's folder.
        say: Is told each step's title and command.
        reads: What the recipe reads.
        launch: Runs a command and returns its exit status; None: in a process of its own, which gives back its memory.

    Raises:
        MissingFileError: A step needs something that is not there; the steps before it are done.
        StepFailed: A step ended with an error.
        KeyboardInterrupt: The run was interrupted.
        SettingError: The folder holds something else, or another run uses it.
    """
    with opened(out, RECIPE, roots=list(reads)):
        record = out / RECORD
        done: dict[str, Any] = read_sealed(record)["done"] if record.is_file() else {}
        for number, step in enumerate(steps, start=1):
            where = f"Step {number} of {len(steps)} ({step.name})"
            digest = json_sha256([step.command, [_state(need.path) for need in step.needs]])
            if done.get(step.name) == digest and step.makes.exists():
                say(f"{where} is done.")
                continue
            if step.lacks:
                raise MissingFileError(f"{where} needs {step.lacks}; name it, and run the same command again.")
            if lacking := next((need for need in step.needs if not need.there), None):
                raise MissingFileError(
                    f"{where} needs {lacking.what} at {lacking.path} ({lacking.source}); put it there, or name it, "
                    "and run the same command again."
                )
            say(f"{where}: {step.title}\n{step.line}")
            if step.command[0] == JOIN:
                join(Path(step.command[1]), [Path(name) for name in step.command[2:]])
            else:
                _check_status(step, where, (launch or in_own_process)(step.command))
            done[step.name] = digest
            write_sealed(record, {"done": done})


def in_own_process(command: Sequence[str]) -> int:
    """Run a command of avem with this Python; returns its exit status.

    Raises:
        KeyboardInterrupt: The run was interrupted; the command has saved its work.
    """
    process = subprocess.Popen(module_command(*command))
    with _forwarded(process):
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # the terminal interrupted it too: it saves its work and ends by itself
            raise


def _check_status(step: Step, where: str, status: int) -> None:
    if status in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if status and not (step.partial and status == PARTIAL):
        raise StepFailed(
            f"{where} ended with status {status}; do what its message says, and run the same command again.",
            status if status in (2, PARTIAL) else 2,
        )


@contextmanager
def _forwarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand a termination signal on to a step, which then saves its work, instead of leaving it behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def join(target: Path, files: Sequence[Path]) -> None:
    """Join files of JSON lines; each ends with a line break.

    Raises:
        MissingFileError: A file is not there.
        DataError: One is not a regular file.
    """
    parts = []
    for file in files:
        content = read_bytes(file)
        parts.append(content if content.endswith(b"\n") or not content else content + b"\n")
    if not any(parts):
        raise DataError(f"{' and '.join(map(str, files))} hold no rows; nothing can be trained on them.")
    write_atomic(target, b"".join(parts))


def _state(path: Path) -> list[object]:
    """What tells an input from another one without reading it: a file's size and date; of a folder that it is there."""
    if path.is_file():
        found = path.stat()
        return [found.st_size, found.st_mtime_ns]
    return [path.exists()]
