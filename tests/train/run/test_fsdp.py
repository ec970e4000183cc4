"""Two processes that share the language model's weights (FSDP) train as two that hold them whole, and as one does."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import load_file

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.train import load_model
from avem.train.data.examples import preference_examples
from avem.train.data.rows import read_preferences
from avem.train.packing.epoch import Packing, plan_epoch
from avem.train.packing.specs import SequenceBuilder
from avem.train.preference import train_preferences
from avem.train.run import session
from avem.train.run.fsdp import fsdp_plugin, shard
from avem.train.run.watch import SPEEDS
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import Kit, make_kit, weights_of

SPREAD = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
"""What `accelerate launch` tells its processes; the last is its default and would leave one without weights."""
PREFERENCES = {
    "epochs": 1,
    "batch_size": 6,
    "tokens_per_batch": 130,
    "train_projectors": True,
    "holdout": 0.2,
    "save_every": 2,
    "learning_rate": 1e-3,
}
FULL = {"epochs": 2, "batch_size": 5, "tune": "full", "save_every": 2, "weight_decay": 0.01, "tokens_per_batch": 150}
ADAPTERS = {"epochs": 1, "batch_size": 5, "tune": "lora", "gradient_checkpointing": True, "train_projectors": False}
PROJECTORS = {"epochs": 1, "batch_size": 5, "tune": "none", "tokens_per_batch": 100}

SHARES: list[float] = []
"""Of the language model, what a process keeps; one for each time that weights were spread."""


def train_all(rank: int, port: int, jobs: list) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    Accelerator.end_training = lambda self: None  # it would take the processes apart, and more runs follow
    session.shard = shard_and_count
    for config, parts in jobs:
        os.environ |= SPREAD if parts else {"ACCELERATE_USE_FSDP": "false"}
        (train_preferences if isinstance(config, PreferenceConfig) else train_supervised)(config)
        assert [SHARES.pop() for _ in range(parts)] == [0.5] * parts


def shard_and_count(model, plugin, device) -> None:
    """Shard, and note what share of the language model this process is left with."""
    shard(model, plugin, device)
    parameters = [value for name, value in model.named_parameters() if ".lora_" not in name and "projector" not in name]
    kept = sum(value.to_local().numel() for value in parameters)
    SHARES.append(kept / sum(value.numel() for value in parameters))


def train_together(jobs: list) -> None:
    """Do runs one after the other in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avem.train.preference"])
    children = [context.Process(target=train_all, args=(rank, port, jobs)) for rank in range(2)]
    for child in children:
        child.start()
    give_up = time.monotonic() + 120
    for child in children:
        child.join(give_up - time.monotonic())
    alive = [child.is_alive() for child in children]
    for child in children:
        child.kill()
    assert not any(alive), "the processes wait for each other"
    assert [child.exitcode for child in children] == [0, 0]


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("spread"))


@pytest.fixture(scope="module")
def runs(kit, tmp_path_factory) -> Path:
    """Folders of runs of two processes, `-whole` and `-spread`."""
    folder = tmp_path_factory.mktemp("runs")
    jobs: list = []
    for side, parts in (("whole", False), ("spread", True)):
        jobs.append((PreferenceConfig(**kit.preference_settings(folder / f"prefs-{side}", **PREFERENCES)), parts))
        for name, settings in {"full": FULL, "adapters": ADAPTERS, "projectors": PROJECTORS}.items():
            jobs.append((SupervisedConfig(**kit.supervised_settings(folder / f"{name}-{side}", **settings)), parts))
    train_together(jobs)
    return folder


def logged(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in SPEEDS} for line in lines]


def assert_alike(one: Path, other: Path, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """The same metrics at every step and the same weights in the end, up to rounding."""
    assert len(logged(one)) == len(logged(other))
    for left, right in zip(logged(one), logged(other), strict=True):
        assert left == pytest.approx(right, rel=rtol, abs=atol)
    expected = weights_of(one)
    for name, value in weights_of(other).items():
        torch.testing.assert_close(value, expected[name], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["prefs", "full", "adapters", "projectors"])
def test_spread_weights_train_as_whole_ones_do(runs, name):
    assert_alike(runs / f"{name}-whole", runs / f"{name}-spread")


def test_processes_had_unequal_numbers_of_micro_batches(kit):
    model = load_model(kit.model)
    store = FeatureStore.open(kit.store)
    config = PreferenceConfig(**kit.preference_settings(Path("unused"), **PREFERENCES))
    builder = SequenceBuilder(model, store)
    rows = preference_examples(read_preferences(kit.prefs), store, builder, config)
    packing = Packing(config.pairing, config.rows_per_step, config.tokens_per_batch)
    steps = plan_epoch(rows, builder, packing, seed=config.seed, world_size=2)
    assert any(len(first) != len(second) for first, second in (step.ranks for step in steps))


def test_one_process_trains_the_same(kit, runs, tmp_path):
    one = PreferenceConfig(**kit.preference_settings(tmp_path / "one", **{**PREFERENCES, "batch_size": 12}))
    train_preferences(one)
    assert_alike(tmp_path / "one", runs / "prefs-spread", rtol=1e-3, atol=1e-4)


def test_checkpoints_are_of_one_format_and_a_run_goes_on_bit_for_bit(kit, runs, tmp_path):
    whole, parts = (sorted((runs / f"full-{side}" / "checkpoints").iterdir()) for side in ("whole", "spread"))
    assert [path.name for path in whole] == [path.name for path in parts]
    for left, right in zip(whole, parts, strict=True):
        weights = [load_file(path / "trained.safetensors") for path in (left, right)]
        assert {name: value.shape for name, value in weights[0].items()} == {
            name: value.shape for name, value in weights[1].items()
        }
        states = [torch.load(path / "optimizer.pt", weights_only=True) for path in (left, right)]
        assert states[0]["param_groups"] == states[1]["param_groups"]
        for number, values in states[0]["state"].items():
            for name, value in values.items():
                torch.testing.assert_close(states[1]["state"][number][name], value, rtol=1e-3, atol=1e-6)
    jobs = []
    for side in (True, False):  # the second goes on from spread weights with whole ones
        out = tmp_path / f"again-{side}"
        shutil.copytree(runs / "full-spread", out)
        shutil.rmtree(out / "final")
        shutil.rmtree(max((out / "checkpoints").iterdir(), key=lambda path: int(path.name.removeprefix("step-"))))
        jobs.append((SupervisedConfig(**kit.supervised_settings(out, **FULL)), side))
    train_together(jobs)
    expected, found = weights_of(runs / "full-spread"), weights_of(jobs[0][0].out)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert logged(jobs[0][0].out) == logged(runs / "full-spread")
    assert_alike(runs / "full-spread", jobs[1][0].out)


def refused(config: SupervisedConfig, monkeypatch, kind=DistributedType.FSDP, **plugin) -> str:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    state = SimpleNamespace(fsdp_plugin=FullyShardedDataParallelPlugin(**plugin))
    with pytest.raises(SettingError) as error:
        fsdp_plugin(SimpleNamespace(distributed_type=kind, num_processes=2, state=state), config)
    return str(error.value)


def test_what_can_not_be_spread_is_refused(kit, tmp_path, monkeypatch):
    config = SupervisedConfig(**kit.supervised_settings(tmp_path / "run", tune="lora"))
    four = SupervisedConfig(**kit.supervised_settings(tmp_path / "run", tune="lora", quantise="4bit"))
    assert "set it up for FSDP" in refused(config, monkeypatch, DistributedType.DEEPSPEED, fsdp_version=2)
    assert "fsdp_version: 2" in refused(config, monkeypatch, fsdp_version=1)
    assert "fsdp_offload_params" in refused(config, monkeypatch, fsdp_version=2, cpu_offload=True)
    assert "quantise=none" in refused(four, monkeypatch, fsdp_version=2)
