"""`average_checkpoints`: the final weights are the mean of the last regular checkpoints, however the run got there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from avem.errors import SettingError
from avem.sealed.step_log import read_steps
from avem.train.run.loop import Loop
from avem.train.settings.config import SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import Kit, make_kit, weights_of


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("average"))


def settings(kit, out, **changes) -> dict:
    own = {"epochs": 5, "save_every": 3, "tune": "lora", "learning_rate": 1e-2, "keep_checkpoints": 1, **changes}
    return kit.supervised_settings(out, **own)


def checkpoints(run: Path) -> dict[int, dict[str, torch.Tensor]]:
    folders = (run / "checkpoints").glob("step-*")
    return {int(folder.name[5:]): load_file(folder / "trained.safetensors") for folder in folders}


@pytest.fixture(scope="module")
def averaged(kit, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "averaged"
    return train_supervised(SupervisedConfig(**settings(kit, out, average_checkpoints=3)))


def test_final_weights_are_the_mean_of_the_last_checkpoints(kit, averaged, tmp_path):
    every = train_supervised(SupervisedConfig(**settings(kit, tmp_path / "every", keep_checkpoints=99)))
    saved, kept = checkpoints(every), checkpoints(averaged)
    last = sorted(saved)[-3:]
    assert sorted(kept) == last
    changed = 0
    final, plain = weights_of(averaged), weights_of(every)
    for name, value in saved[last[-1]].items():
        mean = sum(saved[step][name].double() for step in last) / 3
        [saved_as] = [each for each, own in plain.items() if torch.equal(own, value)]  # adapters are saved as peft's
        assert torch.equal(final[saved_as], mean.to(value.dtype))
        changed += not torch.equal(final[saved_as], value)
    assert changed > 0


def test_a_checkpoint_that_ctrl_c_left_is_not_averaged(kit, averaged, tmp_path, monkeypatch):
    run = settings(kit, tmp_path / "stopped", average_checkpoints=3)
    steps = max(checkpoints(averaged))
    whole = Loop.step

    def stopping(self, number, media, stop=None):
        metrics, _ = whole(self, number, media, stop)
        return metrics, number + 1 == steps - 1

    monkeypatch.setattr(Loop, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_supervised(SupervisedConfig(**run))
    assert steps - 1 in checkpoints(run["out"])
    monkeypatch.setattr(Loop, "step", whole)
    train_supervised(SupervisedConfig(**run))
    expected, found = weights_of(averaged), weights_of(run["out"])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_more_checkpoints_than_the_run_has_are_refused_before_a_step(kit, tmp_path):
    run = settings(kit, tmp_path / "run", average_checkpoints=99)
    with pytest.raises(SettingError, match=r"average_checkpoints is 99, but the run's .* checkpoints; lower it"):
        train_supervised(SupervisedConfig(**run))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_averaged_is_part_of_the_run(kit, tmp_path):
    plain = SupervisedConfig(**settings(kit, tmp_path))
    averaging = SupervisedConfig(**settings(kit, tmp_path, average_checkpoints=2))
    assert "average_checkpoints" not in plain.identity()
    assert "save_every" not in plain.identity()
    assert {"average_checkpoints": 2, "save_every": 3}.items() <= averaging.identity().items()


def test_the_order_of_rows_can_have_a_seed_of_its_own(kit, tmp_path):
    def losses(name, **seeds):
        changes = {"epochs": 1, "learning_rate": 1e-9, **seeds}  # adapters start as nothing: only the rows count
        run = train_supervised(SupervisedConfig(**settings(kit, tmp_path / name, **changes)))
        return [step["loss"] for step in read_steps(run / "metrics.jsonl")]

    assert "data_seed" not in SupervisedConfig(**settings(kit, tmp_path)).identity()
    own, given, others = losses("a", seed=3), losses("b", seed=5, data_seed=3), losses("c", seed=5)
    assert given == pytest.approx(own, abs=1e-5)
    assert others != pytest.approx(own, abs=1e-3)
