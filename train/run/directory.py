"""A run's directory: what it was started with, what it measured, its checkpoints, and the model it ends in."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avem.errors import CheckpointError, DataError, SettingError
from avem.files import replace_directory
from avem.guards.disk import disk_reason
from avem.guards.outputs import folder_path
from avem.guards.secrets import mask_json
from avem.reading import read_json
from avem.sealed.checksums import check_folder, write_checksums
from avem.sealed.files import read_sealed, write_sealed
from avem.sealed.step_log import append_step, trim_steps
from avem.train.settings.config import SOURCES, RunConfig

logger = logging.getLogger(__name__)

PACKAGES = ("avem", "torch", "transformers", "peft", "accelerate", "numpy")
"""Packages whose versions are kept with a run."""
LOSS_FILE = "judged.json"
"""File of a checkpoint that holds the loss it is ranked by."""


def environment() -> dict[str, str]:
    """Versions of what a run depends on, and the machine's kind."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **versions}


def run_sources(config: RunConfig) -> list[str | Path | None]:
    """The files and folders that a run reads: store, model and rows; a model's name on a hub among them."""
    return [config.cache, config.model, getattr(config, "prefs", None), getattr(config, "data", None)]


class RunDirectory:
    """The directory of one run: `config.json`, `metrics.jsonl`, `checkpoints/step-N/`, `final/`.

    Args:
        path: The directory; made by `start`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def final(self) -> Path:
        """The trained model, which `load_model` reads; it is there once the run is complete."""
        return self.path / "final"

    @property
    def best(self) -> Path:
        """The model of the best checkpoint, where rows were held out."""
        return self.path / "best"

    @property
    def metrics(self) -> Path:
        """One JSON object for each optimiser step."""
        return self.path / "metrics.jsonl"

    def check(self, config: RunConfig) -> None:
        """Refuse a directory in which this configuration may not run.

        Raises:
            SettingError: It holds something else, or a run with other settings, or `resume` is off.
            WriteError: It can't be written.
        """
        folder_path(self.path)
        if not self.path.exists() or all(item.name.startswith(".") for item in self.path.iterdir()):
            return  # what starts with a dot was left by a process that died while it wrote
        record = self._record()
        if record is None:
            raise SettingError(f"{self.path} holds files that are not a run; choose another directory with --out.")
        if not config.resume:
            raise SettingError(
                f"{self.path} holds a run; resume it with --resume, or choose another directory with --out."
            )
        self._compare("settings", record["identity"], config.identity())

    def spelt_alike(self, config: RunConfig) -> bool:
        """Whether the run was started with the same paths; others may hold the same, which only their digests tell."""
        record = self._record()
        now = mask_json(config.to_json())
        return record is not None and all(mask_json(record["settings"].get(name)) == now.get(name) for name in SOURCES)

    def start(self, config: RunConfig, data: dict[str, Any], warnings: Sequence[str] = ()) -> None:
        """Record what the run is made of, or check that it is still made of the same.

        Args:
            config: Its settings.
            data: Digests of everything it reads.
            warnings: What was said of it when the run began, a sentence each; kept for the run's report.

        Raises:
            SettingError: See `check`.
            DataError: The rows, the store or the model changed since the run began.
        """
        self.check(config)
        record = self._record()
        if record is not None:
            self._compare("data", record["data"], data)
            return
        record = {
            "kind": type(config).__name__,
            "settings": config.to_json(),
            "identity": config.identity(),
            "data": data,
            "environment": environment(),
            "warnings": list(warnings),
        }
        write_sealed(self.path / "config.json", record, indent=2)

    def _record(self) -> dict[str, Any] | None:
        file = self.path / "config.json"
        if not file.is_file():
            return None
        record = read_sealed(file)
        if not {"identity", "data"} <= record.keys():
            raise DataError(f"{file} does not describe a run; choose another directory with --out.")
        return record

    def _compare(self, what: str, before: dict[str, Any], now: dict[str, Any]) -> None:
        before, now = mask_json(before), mask_json(now)  # another key or password makes no other run
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if not changed:
            return
        first = changed[0]
        if what == "settings":
            more = f", and so differ {', '.join(changed[1:])}" if len(changed) > 1 else ""
            raise SettingError(
                f"{self.path} holds a run with other settings ({first} was {before.get(first)}, now {now.get(first)}"
                f"{more}); choose another directory with --out."
            )
        raise DataError(
            f"The {first} that the run in {self.path} began with changed since; restore it, "
            f"or start a new run with --out."
        )

    def log(self, values: dict[str, Any]) -> None:
        """Add one step's object to the metrics.

        Raises:
            CheckpointError: It could not be written; the checkpoints are untouched.
        """
        with self._writing(self.metrics):
            append_step(self.metrics, values)

    def trim(self, step: int) -> None:
        """Drop the metrics of steps after this one, and whatever a killed process left unfinished.

        Raises:
            DataError: A line is not what was written.
        """
        trim_steps(self.metrics, step)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Complete checkpoints as (steps done, directory), oldest first."""
        found = [
            (re.fullmatch(r"step-(0|[1-9][0-9]{0,17})", path.name), path)
            for path in (self.path / "checkpoints").glob("step-*")
        ]
        return sorted((int(name.group(1)), path) for name, path in found if name and path.is_dir())

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step is, if there is one."""
        return self.path / "checkpoints" / f"step-{step}"

    def set_aside(self, directory: Path) -> Path:
        """Rename a damaged checkpoint, so that nothing reads it and nothing of it is lost; gives its new path."""
        aside = directory.with_name(f"damaged-{directory.name}-{uuid.uuid4().hex[:6]}")
        directory.rename(aside)
        return aside

    def best_checkpoint(self) -> tuple[int, Path] | None:
        """The checkpoint of the lowest loss, as (steps done, directory); of equals the oldest."""
        losses = [(_loss_of(directory), step, directory) for step, directory in self.checkpoints()]
        if not losses:
            return None
        _, step, directory = min(losses)
        return step, directory

    def save_checkpoint(
        self,
        step: int,
        fill: Callable[[Path], None],
        keep: int,
        loss: float = math.inf,
        needed: Collection[int] = (),
    ) -> None:
        """Save a complete checkpoint, and delete all but the newest, the best and those that are needed.

        Args:
            step: Optimiser steps done.
            fill: Writes the checkpoint into the directory it is given.
            keep: How many of the newest to keep.
            loss: What it is ranked by; the lowest is the best.
            needed: Steps whose checkpoints are never deleted.

        Raises:
            CheckpointError: It could not be written; those before it are untouched.
        """

        def fill_and_rate(directory: Path) -> None:
            fill(directory)
            (directory / LOSS_FILE).write_text(json.dumps({"loss": loss}) + "\n", encoding="utf-8")
            write_checksums(directory)

        directory = self.checkpoint(step)
        with self._writing(directory):
            replace_directory(directory, fill_and_rate)
        best = self.best_checkpoint()
        for old in self.checkpoints()[:-keep]:
            if old != best and old[0] not in needed:
                shutil.rmtree(old[1])

    def save_model(self, directory: Path, save: Callable[[Path], None]) -> None:
        """Write a model of the run.

        Args:
            directory: Where: `final` or `best`.
            save: Writes a complete directory at the path it is given.

        Raises:
            CheckpointError: It could not be written; the checkpoints are untouched.
        """
        with self._writing(directory):
            save(directory)

    @contextmanager
    def _writing(self, directory: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{directory} can't be written: {disk_reason(error)}; it resumes from the last checkpoint."
            ) from error


def _loss_of(directory: Path) -> float:
    """The loss that a checkpoint is ranked by; infinite where it is unknown or damaged, and damage is logged."""
    try:
        check_folder(directory, names=(LOSS_FILE,))
        return float(read_json(directory / LOSS_FILE, dict)["loss"])
    except DataError as error:
        logger.warning("%s Another checkpoint counts as the best.", error)
        return math.inf
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
