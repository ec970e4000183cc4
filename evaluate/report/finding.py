"""What `avem report` shows: bench results and training runs in the folders that it is given, and below them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from avem.errors import DataError, MissingFileError
from avem.evaluate.emorealm.results import FORMAT, BenchResult, read_result
from avem.evaluate.report.runs import distinct_names, is_run
from avem.reading import open_regular

RESULT, BENCH = "result.json", "bench"
"""File of a bench's result, and the folder of a run in which a sweep keeps it."""
DEPTH = 4
"""Folders below the given one that are looked into."""
MOST_FOLDERS = 20_000
"""Folders that are looked at in all."""
CLOSED = frozenset({"checkpoints", "final", "best", "tracked"})
"""Folders of a run that hold no results."""


@dataclass(frozen=True, slots=True)
class Found:
    """Paths to report on."""

    results: tuple[Path, ...] = ()
    """Files of bench results: in the order of the given paths, and below one of them the oldest first."""
    runs: tuple[Path, ...] = ()
    """Run directories."""


def find_reported(paths: Sequence[Path], runs: Sequence[Path] = ()) -> Found:
    """Bench results and runs at some paths; of a folder that is neither, all that lie below it.

    Args:
        paths: Bench results, their folders, run directories, or folders that hold some.
        runs: Run directories, or folders that hold some; results in them are not looked for.

    Raises:
        MissingFileError: There is neither in one of the paths; the message says what was looked for, and where a result
            is instead.
    """
    results: list[Path] = []
    folders: list[Path] = []
    for path in paths:
        own_results, own_runs = _within(path)
        if not own_results and not own_runs:
            raise MissingFileError(_nothing(path))
        results += own_results
        folders += own_runs
    for path in runs:
        _, own_runs = _within(path)
        if not own_runs:
            raise MissingFileError(f"There is no metrics.jsonl in or below {path}; give a folder of `avem train`.")
        folders += own_runs
    return Found(tuple(dict.fromkeys(results)), tuple(dict.fromkeys(folders)))


def read_results(paths: Sequence[Path]) -> list[BenchResult]:
    """Bench results under distinct names: those of one name are called by their folders.

    Raises:
        DataError: One is damaged, or they are on different questions; the message lists which belong together.
    """
    read = [read_result(path) for path in paths]
    groups: dict[frozenset[str], list[Path]] = {}
    for path, result in zip(paths, read, strict=True):
        groups.setdefault(frozenset(item.question.id for item in result.items), []).append(path)
    if len(groups) > 1:
        said = "; ".join(f"{len(ids)} questions: {_listed(members)}" for ids, members in groups.items())
        raise DataError(f"These results are on different questions ({said}); give those of one kind.")
    names = Counter(result.name for result in read)
    folders = distinct_names([_owner(path) for path in paths]) if paths else []
    return [
        replace(result, name=folder) if names[result.name] > 1 else result
        for result, folder in zip(read, folders, strict=True)
    ]


def _owner(path: Path) -> Path:
    """The folder that a result is named after; a run's `bench` is named after the run."""
    return path.parent.parent if path.parent.name == BENCH else path.parent


def is_bench_result(path: Path) -> bool:
    """Whether a file is the result of a bench: its first bytes say so."""
    try:
        with open_regular(path) as file:
            return FORMAT.encode() in file.read(200)
    except OSError:
        return False


def _within(path: Path) -> tuple[list[Path], list[Path]]:
    """Results and runs of a path, itself or below it."""
    if path.is_file():
        return [path], []  # reading says what is wrong with another file
    if (path / RESULT).is_file():
        return [path / RESULT], []
    below = list(islice(_folders(path), MOST_FOLDERS))
    results = [folder / RESULT for folder in below if is_bench_result(folder / RESULT)]
    runs = [path] if is_run(path) else [folder for folder in below if is_run(folder)]
    return sorted(results, key=lambda each: (each.stat().st_mtime_ns, each)), sorted(runs)


def _folders(path: Path) -> Iterator[Path]:
    """A folder and those below it, the nearest first; hidden ones, models and stores are left out."""
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        yield folder
        if depth == DEPTH or (folder / "zarr.json").is_file():
            continue
        try:
            inside = sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
        except OSError:
            continue  # not ours to read
        closed = CLOSED if is_run(folder) else frozenset()
        waiting += [(each, depth + 1) for each in inside if each.name not in closed and each.name[0] != "."]


def _nothing(path: Path) -> str:
    """That a path holds nothing to report, and where something is."""
    looked = f"There is no bench result ({RESULT}) and no training run (metrics.jsonl) in or below {path}"
    elsewhere = next((each for each in islice(_folders(Path()), 500) if is_bench_result(each / RESULT)), None)
    if elsewhere is None:
        return f"{looked}; `avem bench` and `avem train` make them."
    return f"{looked}; a bench result is in {elsewhere}."


def _listed(paths: Sequence[Path]) -> str:
    shown = [str(path.parent) for path in paths[:3]]
    return ", ".join([*shown, *(["..."] if len(paths) > len(shown) else [])])
