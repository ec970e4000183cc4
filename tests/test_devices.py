"""`--device` in every command: a name or a GPU that is not there is one sentence, before anything is computed."""

import pytest
import torch

from avem.errors import SettingError
from avem.evaluate.predict.loading import open_model
from avem.guards.devices import find_device
from avem.tools.doctor import DoctorOptions, examine
from avem.tools.project.benchmarks.gpu.run import Options, benchmark
from avem.train.run.session import make_accelerator
from avem.train.settings.config import SupervisedConfig


@pytest.fixture
def gpus(monkeypatch):
    def have(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


@pytest.mark.parametrize(
    ("count", "name", "found"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (0, "cpu:0", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_what_a_name_means(gpus, count, name, found):
    gpus(count)
    assert str(find_device(name)) == found


@pytest.mark.parametrize("name", ["tpu", "mps", "cuda:x", "", "meta"])
def test_other_names_are_refused(gpus, name):
    gpus(2)
    with pytest.raises(SettingError, match=f"^--device is {name}; it must be auto, cpu, cuda or cuda:1.$"):
        find_device(name)


@pytest.mark.parametrize(
    ("count", "name", "said"), [(0, "cuda", "no GPU"), (1, "cuda:1", "1 GPU"), (2, "cuda:7", "2 GPUs")]
)
def test_gpus_that_are_not_there_are_counted(gpus, count, name, said):
    gpus(count)
    with pytest.raises(SettingError, match=f"^device is {name}, and torch finds {said} here; use device=auto.$"):
        find_device(name, option="device", otherwise="device=auto")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_every_command_asks(gpus, device, tmp_path):
    gpus(0)
    config = SupervisedConfig(cache=tmp_path, model="m", out=tmp_path, data=tmp_path, device=device)
    for run in (
        lambda: examine(DoctorOptions(device)),
        lambda: benchmark(Options(device=device, out=tmp_path / "new")),
        lambda: open_model(str(tmp_path), device),
        lambda: make_accelerator(config),
    ):
        with pytest.raises(SettingError, match=f"device is {device}"):
            run()


def test_training_takes_the_gpu_that_is_named(gpus, monkeypatch, tmp_path):
    gpus(2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr("avem.train.run.session.Accelerator", lambda **_: None)
    for device in ("cuda:1", "cuda", "cpu", "auto"):
        make_accelerator(SupervisedConfig(cache=tmp_path, model="m", out=tmp_path, data=tmp_path, device=device))
    assert taken == [torch.device("cuda", 1)]
