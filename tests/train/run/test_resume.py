"""A run that is killed with SIGKILL anywhere ends, when it is started again, in the same weights bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from avem.errors import CheckpointError, DataError
from avem.files import write_json_lines
from avem.train.run.checkpoint import gather_checkpoint, read_checkpoint, write_checkpoint
from avem.train.run.watch import SPEEDS
from avem.train.settings.config import SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import Kit, instruction_rows, make_kit, weights_of


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def settings(kit) -> dict:
    return kit.supervised_settings(Path("unset"), epochs=5, save_every=3, tune="lora", weight_decay=0.01)


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory) -> Path:
    return train_supervised(SupervisedConfig(**{**settings, "out": tmp_path_factory.mktemp("runs") / "whole"}))


def train_in_child(settings: dict) -> None:
    torch.set_num_threads(1)
    train_supervised(SupervisedConfig(**settings))


def train_and_kill(settings: dict, steps: int, delay_s: float) -> None:
    """Start training in another process, let it log some steps and a little more, and kill it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avem.train.supervised"])
    child = context.Process(target=train_in_child, args=(settings,))
    child.start()
    metrics = settings["out"] / "metrics.jsonl"
    give_up = time.monotonic() + 120
    while child.is_alive() and time.monotonic() < give_up:
        if metrics.is_file() and metrics.read_bytes().count(b"\n") >= steps:
            break
        time.sleep(0.002)
    time.sleep(delay_s)
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
    child.join()


def logged(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in SPEEDS} for line in lines]


def test_killed_runs_end_in_the_same_weights(settings, undisturbed, tmp_path):
    chance = random.Random(7)
    total = len(logged(undisturbed))
    killed = 0
    for attempt in range(2):
        run = {**settings, "out": tmp_path / str(attempt)}
        for step in sorted(chance.sample(range(1, total - 4), 2 - attempt)):
            train_and_kill(run, step, chance.uniform(0, 0.05))
            killed += not (run["out"] / "final").exists()
        train_supervised(SupervisedConfig(**run))
        expected, found = weights_of(undisturbed), weights_of(run["out"])
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert logged(run["out"]) == logged(undisturbed)
    assert killed


def test_only_whole_and_the_newest_checkpoints_are_kept(undisturbed):
    names = sorted(path.name for path in (undisturbed / "checkpoints").iterdir())
    last = len(logged(undisturbed))
    assert len(names) == 2
    assert f"step-{last}" in names


def test_a_run_whose_rows_changed_does_not_go_on(kit, settings, tmp_path):
    out, data = tmp_path / "run", tmp_path / "rows.jsonl"
    data.write_bytes(kit.data.read_bytes())
    train_supervised(SupervisedConfig(**{**settings, "out": out, "data": data}))
    for name in ("final", "checkpoints"):
        (out / name).rename(out / f"old-{name}")
    write_json_lines(data, [row.to_json() for row in instruction_rows()[1:]])
    with pytest.raises(DataError, match="changed since"):
        train_supervised(SupervisedConfig(**{**settings, "out": out, "data": data}))


def test_a_full_disk_leaves_the_last_good_checkpoint(settings, tmp_path, monkeypatch):
    from avem.train.run import loop

    def full(directory, state, step):
        if step > 3:
            raise OSError(28, "No space left on device")
        write_checkpoint(directory, state, step)

    monkeypatch.setattr(loop, "write_checkpoint", full)
    out = tmp_path / "run"
    with pytest.raises(CheckpointError, match="the disk is full"):
        train_supervised(SupervisedConfig(**{**settings, "out": out}))
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-3"]
    monkeypatch.undo()
    train_supervised(SupervisedConfig(**{**settings, "out": out}))
    assert (out / "final").is_dir()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    write_checkpoint(tmp_path, gather_checkpoint(model, optimizer), 5)
    assert read_checkpoint(tmp_path, model, optimizer) == 5
    file = tmp_path / "trained.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="can't be read"):
        read_checkpoint(tmp_path, model, optimizer)
    write_checkpoint(tmp_path, gather_checkpoint(torch.nn.Linear(2, 2, bias=False), optimizer), 5)
    with pytest.raises(CheckpointError, match="other weights"):
        read_checkpoint(tmp_path, model, optimizer)
