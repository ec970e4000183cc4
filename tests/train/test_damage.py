"""A flipped bit in anything that a run saves gives the same as before, or one sentence: never another result."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest
import torch

from avem.errors import AvemError, CheckpointError, DataError
from avem.evaluate.emorealm.results import Item, read_result, score_items
from avem.evaluate.report.curves import read_metrics
from avem.records import Question
from avem.sealed.files import read_sealed, write_sealed
from avem.sealed.step_log import append_step, read_steps, trim_steps
from avem.train import load_model
from avem.train.run.checkpoint import DamagedCheckpointError, gather_checkpoint, read_checkpoint, write_checkpoint
from avem.train.run.directory import RunDirectory
from avem.train.settings.config import SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import make_kit, weights_of

FLIPS = 60


def flips(path: Path, count: int = FLIPS):
    """Flip one bit after another in a file, each alone, the first and the last byte among them; then restore it."""
    whole, chance = path.read_bytes(), random.Random(path.name)
    for number in range(count):
        at = (0, len(whole) - 1)[number] if number < 2 else chance.randrange(len(whole))
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        yield at
    path.write_bytes(whole)


def saved_checkpoint(folder: Path) -> tuple[Path, torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    run = RunDirectory(folder)
    run.save_checkpoint(5, lambda at: write_checkpoint(at, gather_checkpoint(model, optimizer), 5), keep=2, loss=0.5)
    return folder / "checkpoints" / "step-5", model, optimizer


@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.pt", "state.json", "judged.json", "checksums.json"])
def test_no_flip_in_a_checkpoint_is_read(tmp_path, name):
    directory, model, optimizer = saved_checkpoint(tmp_path)
    wanted = {key: value.clone() for key, value in model.state_dict().items()}
    refused = 0
    for _ in flips(directory / name):
        try:
            assert read_checkpoint(directory, model, optimizer) == 5
        except AvemError:
            refused += 1
        assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert refused > FLIPS // 2
    assert read_checkpoint(directory, model, optimizer) == 5


def test_a_checkpoint_from_before_checksums_with_another_step_is_refused(tmp_path):
    directory, model, optimizer = saved_checkpoint(tmp_path)
    (directory / "checksums.json").unlink()
    assert read_checkpoint(directory, model, optimizer) == 5
    (directory / "state.json").write_text('{"step": 500}')
    with pytest.raises(DamagedCheckpointError, match=r"state.json is of step 500"):
        read_checkpoint(directory, model, optimizer)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict]:
    kit = make_kit(tmp_path_factory.mktemp("damage"))
    settings = kit.supervised_settings(
        kit.store.parent / "run", max_steps=4, save_every=2, tune="lora", train_projectors=True, reliance_rows=0
    )
    return train_supervised(SupervisedConfig(**settings)), settings


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "projectors.safetensors", "adapter_config.json"])
def test_no_flip_in_the_trained_model_is_read(trained, name):
    run, settings = trained
    for _ in flips(run / "final" / name, 12):
        with pytest.raises(DataError, match=name):
            load_model(run)
        with pytest.raises(DataError, match=name):
            train_supervised(SupervisedConfig(**settings))  # which would say that the run is complete
    (run / "final" / "README.md").write_text("A card of my own.")
    load_model(run)


def test_no_flip_in_a_run_record_is_read(trained):
    run, _ = trained
    record = read_sealed(run / "config.json")
    refused = 0
    for _ in flips(run / "config.json"):
        try:
            assert read_sealed(run / "config.json") == record
        except DataError:
            refused += 1
    assert refused > FLIPS // 2


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.crc32c"])
def test_no_flip_in_metrics_is_read(trained, name):
    run, _ = trained
    steps = read_steps(run / "metrics.jsonl")
    assert len(steps) == 4
    refused = 0
    for _ in flips(run / name):
        try:
            assert read_steps(run / "metrics.jsonl") == steps
        except DataError:
            refused += 1
            with pytest.raises(DataError, match="damaged"):
                read_metrics(run)
    assert refused > FLIPS // 2


def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(trained, tmp_path, caplog):
    whole, settings = trained
    wanted = weights_of(whole)
    run = train_supervised(SupervisedConfig(**{**settings, "out": tmp_path / "run"}))
    (run / "final").rename(tmp_path / "old-final")
    file = run / "checkpoints" / "step-4" / "optimizer.pt"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 16
    file.write_bytes(changed)
    with caplog.at_level(logging.WARNING):
        train_supervised(SupervisedConfig(**{**settings, "out": run}))
    assert "step-4/optimizer.pt is damaged" in caplog.text
    assert "step 2 is used instead" in caplog.text
    assert [path.read_bytes() for path in run.glob("checkpoints/damaged-step-4-*/optimizer.pt")] == [bytes(changed)]
    assert all(torch.equal(value, wanted[key]) for key, value in weights_of(run).items())
    assert [step["step"] for step in read_steps(run / "metrics.jsonl")] == [1, 2, 3, 4]
    (run / "final").rename(tmp_path / "older-final")
    for state in run.glob("checkpoints/step-*/state.json"):
        state.write_text('{"step": 9}')
    with pytest.raises(CheckpointError, match=r"No checkpoint of the run in .* is whole"):
        train_supervised(SupervisedConfig(**{**settings, "out": run}))


def test_a_log_that_a_kill_cut_off_anywhere_loses_one_line_at_most(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_step(path, {"step": step, "loss": 0.5 * step})
    content = path.read_bytes()
    second = content.index(b"\n", content.index(b"\n") + 1) + 1
    for length in range(second, len(content) + 1):
        path.write_bytes(content[:length])
        trim_steps(path, 2)
        assert [step["step"] for step in read_steps(path)] == [1, 2]
        path.write_bytes(content)
        (tmp_path / "metrics.crc32c").unlink()
        assert len(read_steps(path)) == 3  # as before checksums
        trim_steps(path, 3)
        append_step(path, {"step": 4})
        assert [step["step"] for step in read_steps(path)] == [1, 2, 3, 4]
        trim_steps(path, 3)


def test_no_flip_in_a_bench_result_is_read(tmp_path):
    question = Question("q1", "v.mp4", "modality_agreement", "Why? 为什么", ("(A) Yes", "(B) No"), "A", {"n": 1.5})
    result = score_items([Item(question, "c", "v.mp4", "", (-0.25, -1.5), "(A)", "A")], resamples=10, name="m")
    file = tmp_path / "result.json"
    result.write(file)
    wanted = read_result(file)
    assert wanted.items == result.items
    refused = 0
    for _ in flips(file, 4 * FLIPS):
        try:
            assert read_result(file) == wanted
        except DataError:
            refused += 1
    assert refused > 3 * FLIPS
    content = json.loads(file.read_text())
    del content["check"]
    file.write_text(json.dumps(content))
    assert read_result(file) == wanted  # as before checksums


def test_a_sealed_file_keeps_keys_of_any_kind(tmp_path):
    write_sealed(tmp_path / "x.json", {"seeds": {10: 1.0, 2: (1, 2)}})  # type: ignore[dict-item]
    assert read_sealed(tmp_path / "x.json") == {"seeds": {"10": 1.0, "2": [1, 2]}}
