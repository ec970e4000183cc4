"""What a model was trained on here: the rows of each run that led to it, as far as they are still what they were."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore
from avem.cache.windows import whole_id
from avem.errors import AvemError
from avem.locate import look_up
from avem.records import InstructionRow, PreferenceRow
from avem.sealed.files import read_sealed
from avem.text.lists import counted, listed
from avem.text.names import shown_path
from avem.train.checkpoints.load import base_of, finished, read_settings
from avem.train.data.rows import read_instructions, read_preferences, rows_digest, usual_question
from avem.train.model.saving import ADAPTER_TYPE

logger = logging.getLogger(__name__)

MOST_RUNS = 100
"""Runs on top of each other; a circle of them would never end."""

GONE = "{file}, which {run} was trained on, is gone"
CHANGED = "{file} has changed since {run} was trained on it"
UNREADABLE = "{file} can't be compared with what {run} was trained on"
HELD_OUT = "{run} was trained on a part of {file} alone"
UNRECORDED = "the record of {run}, which tells whether {file} is what it was trained on, is gone"
"""Why the rows of a run are not known."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One run that a model went through."""

    rows: tuple[PreferenceRow | InstructionRow, ...] | None
    """What it was trained on; None where the file is gone or has changed since, or where some rows were held out."""
    store: Path | None
    """The store that it read, where it is still there."""
    question: str = ""
    """What most of its rows ask, as it recorded it or as they are; empty if that is not known, or there is none."""
    run: str = ""
    """Its folder, for readers."""
    file: str = ""
    """The file of its rows, for readers."""
    lost: str = ""
    """Why `rows` or `store` is None, for the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """Whether a model was trained on a clip."""

    trained: bool | None = None
    """None where that is not known."""
    detail: str = ""
    """As which clip of which rows; where it is not known, what is gone or has changed, if anything here is or has."""


@dataclass(frozen=True)
class History:
    """The runs that a model went through, the last one first.

    Args:
        stages: The runs.
        complete: Whether they begin at a model that avem made from nothing, so that there was no other training.
    """

    stages: tuple[Stage, ...] = ()
    complete: bool = False

    @classmethod
    def of(cls, model: str) -> History:
        """The history of a model on this machine; empty where nothing is known of it."""
        try:
            return cls(*_walk(model))
        except (AvemError, OSError) as error:
            logger.debug("%s says nothing of its training: %s", model, error)
            return cls()

    @property
    def known(self) -> bool:
        """Whether every row that the model ever learnt from is known."""
        return self.complete and bool(self.stages) and all(stage.rows is not None for stage in self.stages)

    @property
    def usual(self) -> str:
        """The question that most rows ask of the last run that has such a question; empty without one."""
        return next((stage.question for stage in self.stages if stage.question), "")

    @property
    def usual_count(self) -> str:
        """How many of a run's rows ask `usual`, for readers; empty where the rows are not known.

        Example:
            >>> from avem.records import Modality
            >>> row = InstructionRow("r", "c", Modality.AUDIO, "t", "Why?", "Joy.")
            >>> History((Stage((row,), None, "Why?", file="rows.jsonl"),)).usual_count
            '1 of 1 row in rows.jsonl'
        """
        stage = next((stage for stage in self.stages if stage.question), None)
        if stage is None or stage.rows is None:
            return ""
        count = sum(row.question.strip() == stage.question for row in stage.rows)
        return f"{count} of {counted(len(stage.rows), 'row')} in {stage.file}"

    @cached_property
    def questions(self) -> Counter[str]:
        """What its rows ask, and how many of them."""
        return Counter(row.question.strip() for stage in self.stages for row in stage.rows or ())

    @cached_property
    def stores(self) -> Mapping[Path, FeatureStore]:
        """The stores that it was trained from and that can still be read, by their folders."""
        found = {}
        for path in dict.fromkeys(stage.store for stage in self.stages if stage.store is not None):
            try:
                found[path] = FeatureStore.open(path)
            except (AvemError, OSError) as error:
                logger.debug("%s can't be read: %s", path, error)
        return found

    def learnt_from(self, digest: str) -> Learnt:
        """Whether a clip is among those that the model was trained on, and as which.

        It is not known where rows or a store are gone, or where the model had other training before.

        Args:
            digest: SHA-256 of its media file.
        """
        places: dict[str, list[str]] = {}
        lost = []
        for stage in self.stages:
            if stage.rows is None or stage.store is None or stage.store not in self.stores:
                lost.append(stage.lost or f"the store of {stage.run} can't be read")
                continue
            table = self.stores[stage.store].columns(["clip_id", "sha256"])
            pairs = zip(table["clip_id"].to_pylist(), table["sha256"].to_pylist(), strict=True)
            same = {whole_id(name) for name, sha256 in pairs if sha256 == digest}
            for name in sorted(same & {whole_id(row.clip_id) for row in stage.rows}):
                places.setdefault(name, []).append(f"{stage.file} of {stage.run}")
        if places:
            return Learnt(True, listed([f"as {name}, in {listed(found)}" for name, found in places.items()]))
        if lost or not self.known:
            return Learnt(None, listed(lost))
        return Learnt(False)


def _walk(model: str) -> tuple[tuple[Stage, ...], bool]:
    """The stages of a model and whether they are all."""
    stages: list[Stage] = []
    folder = _folder(model)
    for _ in range(MOST_RUNS):
        if folder is None:
            return tuple(stages), False
        settings = read_settings(folder)
        provenance = settings.get("provenance") or {}
        training = provenance.get("training")
        if isinstance(training, dict):
            stages.append(_stage(folder, training, provenance.get("question")))
        if settings.get("model_type") == ADAPTER_TYPE:
            folder = _folder(str(base_of(folder, settings)))
        elif isinstance(training, dict) and (before := _resolved(training.get("model"), folder, training)) is not None:
            folder = _folder(str(before))
        else:
            return tuple(stages), settings.get("base") == "" and not settings.get("avere")
    return tuple(stages), False


def _folder(model: str) -> Path | None:
    """A model's folder, if it is on this machine; the hub is not asked."""
    found = look_up(model, ask_hub=False)
    return None if found.path is None or not found.path.is_dir() else finished(found.path)


def _stage(folder: Path, training: dict[str, Any], question: object) -> Stage:
    store = _resolved(training.get("cache"), folder, training)
    store = store if store is not None and store.is_dir() else None
    run = shown_path(folder.parent if folder.name == "final" else folder)
    named = training.get("prefs") or training.get("data")
    path = _resolved(named, folder, training)
    file = str(named or "rows") if path is None else shown_path(path)
    rows, lost = _rows(folder, path, training)
    if lost:
        lost = lost.format(file=file, run=run)
    elif store is None:
        lost = f"the store {training.get('cache')}, which names the files of the clips in {file}, is gone"
    asked = question if isinstance(question, str) else usual_question(rows or ())
    return Stage(rows, store, asked, run, file, lost)


def _rows(
    folder: Path, path: Path | None, training: dict[str, Any]
) -> tuple[tuple[PreferenceRow | InstructionRow, ...] | None, str]:
    """The rows of a run if they are the ones that it recorded, else why not, with slots for the file and the run."""
    record = folder.parent / "config.json"
    if path is None:
        return None, GONE
    if not record.is_file():
        return None, UNRECORDED
    if training.get("holdout"):
        return None, HELD_OUT
    try:
        rows: Sequence[PreferenceRow | InstructionRow]
        rows = read_preferences(path) if training.get("prefs") else read_instructions(path)
        same = read_sealed(record)["data"]["rows"] == rows_digest(rows)
    except (AvemError, OSError, KeyError, TypeError) as error:
        logger.debug("%s can't be compared with the run's record: %s", path, error)
        return None, UNREADABLE
    return (tuple(rows), "") if same else (None, CHANGED)


def _resolved(name: object, folder: Path, training: dict[str, Any]) -> Path | None:
    """A path of a run's settings, if it is there: seen from where the run was started or is now, else from here.

    Args:
        name: The path as it was given; of a folder that was moved or copied with its run, as it was then.
        folder: The run's `final/`.
        training: Its settings, whose `out` tells how far above the run's folder it was started.
    """
    if not isinstance(name, str) or not name:
        return None
    path = Path(name).expanduser()
    out = Path(str(training.get("out", "")))
    run = folder.resolve().parent
    places = []
    if not out.is_absolute() and out.parts and run.parts[-len(out.parts) :] == out.parts:
        places.append(Path(*run.parts[: -len(out.parts)], path))
    if (moved := _moved(path, out, run)) is not None:
        places.append(moved)
    places.append(path)  # last: a relative one may by chance name something here that is not this run's
    return next((place for place in places if place.exists()), None)


def _moved(path: Path, out: Path, run: Path) -> Path | None:
    """Where a path is now that the folder around it and its run has another name or place; None if it shares none.

    Example:
        >>> _moved(Path("demo/cache"), Path("demo/runs/base"), Path("/copies/second/runs/base")).as_posix()
        '/copies/second/cache'
    """
    same = 0
    while same < min(len(out.parts), len(run.parts)) and out.parts[-1 - same] == run.parts[-1 - same]:
        same += 1
    before = out.parts[: len(out.parts) - same]
    if not same or not before or path.parts[: len(before)] != before:
        return None
    return Path(*run.parts[: len(run.parts) - same], *path.parts[len(before) :])
