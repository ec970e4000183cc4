"""Broken files of every kind that avem reads, in a folder that is whole otherwise."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avem.sealed.checksums import CHECKSUMS
from tests.fuzz.command_kit import NODES, check, run
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.world_kit import COMMANDS, make_world

WRITTEN = ("out", "new", "page.html", "run", "cache", ".cache")
"""What the commands may write to; everything else stays as it is."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture
def filled(world, monkeypatch, capsys) -> Path:
    if not any(world.iterdir()):
        make_world(world, monkeypatch, capsys)
    return world


def _files(folder: Path) -> dict[str, str]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = {path.relative_to(folder).as_posix(): path for path in found}
    kept = {name: path for name, path in names.items() if name.split("/")[0] not in WRITTEN}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in kept.items()}


def _copy(world: Path, folder: Path, pattern: str) -> Path:
    shutil.copytree(world, folder)
    if pattern.startswith("run/checkpoints"):
        shutil.rmtree(folder / "run" / "final")  # a run that was stopped, so that its checkpoint is read
    return folder


def _unseal(folder: Path, rng: random.Random) -> None:
    """Half of the time make it a folder from before checksums, so that what reads a file sees what is wrong with it."""
    if rng.random() < 0.5:
        for path in folder.rglob(CHECKSUMS):
            path.unlink()


@pytest.mark.parametrize("pattern", COMMANDS)
def test_the_files_are_valid(pattern, filled, tmp_path, monkeypatch, capsys):
    for number, arguments in enumerate(COMMANDS[pattern]):
        folder = _copy(filled, tmp_path / str(number), pattern)
        monkeypatch.chdir(folder)
        status, shown = run(arguments, monkeypatch, capsys)
        assert status == 0, shown


@pytest.mark.parametrize("pattern", COMMANDS)
def test_a_broken_file_is_one_sentence(pattern, filled, tmp_path, monkeypatch, capsys, fuzz_cases):
    rng = random.Random(f"{pattern} {os.environ.get('AVEM_FUZZ_SEED', '0')}")
    faults = []
    for case in range(max(1, fuzz_cases // 8)):
        folder = _copy(filled, tmp_path / str(case), pattern)
        _unseal(folder, rng)
        monkeypatch.chdir(folder)
        base, _, last = pattern.rpartition("/")
        paths = [path for path in sorted((folder / base).rglob(last)) if path.is_file()]
        path, mutate = rng.choice(paths), rng.choice(MUTATIONS)
        path.write_bytes(mutate(path.read_bytes(), rng))
        before, arguments = _files(folder), rng.choice(COMMANDS[pattern])
        try:
            check(*run(arguments, monkeypatch, capsys))
            assert _files(folder) == before
        except BaseException as error:  # every fault of a kind is shown at once  # noqa: BLE001
            name, head = path.relative_to(folder), path.read_bytes()[:60]
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            line = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
            faults.append(f"{case} {name} {head!r} {arguments}: {type(error).__name__} {str(error)[:250]} {line}")
        shutil.rmtree(folder)
    assert not faults, "\n".join(faults)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Two GB more than now, so that reading a device without an end fails before the machine runs out of memory."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    now = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (now + (2 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, limits)


def _replace_each(filled: Path, folder: Path, pattern: str, node: str, count: int | None = None) -> Iterator[Path]:
    """The whole folder, copied again for each file of a pattern, which is something else there."""
    base, _, last = pattern.rpartition("/")
    rng = random.Random(f"{pattern} {node} {os.environ.get('AVEM_FUZZ_SEED', '0')}")
    whole = _copy(filled, folder / "whole", pattern)
    paths = [path.relative_to(whole) for path in sorted((whole / base).rglob(last)) if path.is_file()]
    for path in paths if count is None else rng.sample(paths, min(count, len(paths))):
        copy = shutil.copytree(whole, folder / "copy")
        (copy / path).unlink()
        NODES[node](copy / path)
        yield path
        shutil.rmtree(copy)
    shutil.rmtree(whole)


@pytest.fixture
def faults_of(tmp_path, monkeypatch, capsys) -> Callable[[Iterator[Path], list[list[str]]], list[str]]:
    """Runs commands in `copy` for each file that was replaced there; gives what did not end as promised."""

    def found(paths: Iterator[Path], commands: list[list[str]]) -> list[str]:
        faults = []
        for path in paths:
            for arguments in commands:
                monkeypatch.chdir(tmp_path / "copy")
                try:
                    check(*run(arguments, monkeypatch, capsys))
                except BaseException as error:  # every fault is shown at once  # noqa: BLE001
                    faults.append(f"{path} {arguments}: {type(error).__name__} {str(error)[:250]}")
        return faults

    return found


@pytest.mark.usefixtures("bounded_memory")
@pytest.mark.parametrize("node", ["pipe", "device"])
@pytest.mark.parametrize("pattern", COMMANDS)
def test_a_pipe_or_a_device_among_the_files_is_one_sentence(pattern, node, filled, tmp_path, faults_of, fuzz_cases):
    paths = _replace_each(filled, tmp_path, pattern, node, max(1, fuzz_cases // 8))
    faults = faults_of(paths, COMMANDS[pattern])
    assert not faults, "\n".join(faults)


@pytest.mark.usefixtures("bounded_memory")
@pytest.mark.parametrize("node", ["pipe", "device"])
@pytest.mark.parametrize("command", ["info", "verify", "repair"])
def test_any_file_of_a_store_may_be_a_pipe_or_a_device(command, node, filled, tmp_path, faults_of):
    faults = faults_of(_replace_each(filled, tmp_path, "cache/*", node), [["cache", command]])
    assert not faults, "\n".join(faults)
