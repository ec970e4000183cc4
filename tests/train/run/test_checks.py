"""What happens at checkpoints: held-out rows, the best model, reliance, trackers, and stopping in good order."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import CheckpointError, DataError, PromptError, SettingError
from avem.evaluate.contrast import ContrastOptions
from avem.files import write_json_lines
from avem.train import load_model
from avem.train.data.noise import FeatureNoise, signal_share
from avem.train.data.rows import read_instructions
from avem.train.packing.specs import ScoreSpec
from avem.train.preference import train_preferences
from avem.train.run.checks import HeldOut
from avem.train.run.directory import RunDirectory
from avem.train.run.session import Session
from avem.train.run.training import split
from avem.train.run.watch import SPEEDS
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import SupervisedObjective, SupervisedTraining, train_supervised
from tests.train.training_kit import Kit, instruction_rows, make_kit, negatives, weights_of, write_negatives


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("checks"))


@pytest.fixture(scope="module")
def held_out(kit, tmp_path_factory) -> Path:
    """Six epochs of which the third is said to be the best; what was really measured is `held_real`."""
    settings = kit.supervised_settings(
        tmp_path_factory.mktemp("runs") / "held", epochs=6, save_every=0, tune="lora", holdout=0.4, keep_checkpoints=1
    )
    said = iter([5.0, 3.0, 1.0, 4.0, 2.0, 6.0])
    real = HeldOut.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            HeldOut,
            "__call__",
            lambda self, model: {"held_real": real(self, model)["held_loss"], "held_loss": next(said)},
        )
        return train_supervised(SupervisedConfig(**settings))


def read_metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_held_out_rows_are_measured_and_not_trained_on(kit, held_out):
    metrics = read_metrics(held_out)
    epoch = sum(item["rows"] for item in metrics) / 6
    session = Session.open(SupervisedConfig(**kit.supervised_settings(held_out, holdout=0.4)))
    kept, held = split(SupervisedTraining(session.config).examples(session, read_instructions(kit.data)), session)
    assert {row.clip for row in kept}.isdisjoint(row.clip for row in held)
    assert epoch == len(kept)
    assert sum("held_loss" in item for item in metrics) == 6


def test_the_best_checkpoint_is_kept_and_its_model_saved(held_out):
    metrics = read_metrics(held_out)
    judged = {item["step"]: item["held_loss"] for item in metrics if "held_loss" in item}
    best = min(judged, key=lambda step: judged[step])
    assert judged[best] == 1.0
    run = RunDirectory(held_out)
    assert run.best_checkpoint()[0] == best
    assert [step for step, _ in run.checkpoints()] == sorted({best, max(judged)})
    final, chosen = weights_of(held_out), load_model(run.best).state_dict()
    assert any(not torch.equal(final[name], chosen[name]) for name in final)


def test_held_out_loss_is_that_of_the_saved_model(kit, held_out):
    config = SupervisedConfig(**kit.supervised_settings(held_out, holdout=0.4))
    session = Session.open(config, load_model(held_out / "final"))
    _, held = split(SupervisedTraining(config).examples(session, read_instructions(kit.data)), session)
    features = session.features(example.spec for example in held)
    objective = SupervisedObjective(held, session.builder)
    with torch.no_grad():
        losses, _ = objective.losses(session.model, tuple(range(len(held))), features.media([]))
    loss = losses.sum().item() / objective.normaliser(range(len(held)))
    assert read_metrics(held_out)[-1]["held_real"] == pytest.approx(loss, rel=1e-4)


def test_reliance_is_the_drop_under_another_clips_audio_or_video(kit, held_out):
    last = read_metrics(held_out)[-1]
    assert {"reliance_audio", "reliance_video"} <= last.keys()
    assert abs(last["reliance_video"]) > 1e-4


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_a_share_that_leaves_a_side_empty_is_refused(kit, tmp_path, share):
    with pytest.raises(SettingError, match="holdout="):
        train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path / "run", holdout=share)))


def test_speeds_and_trackers(kit, tmp_path):
    run = train_supervised(
        SupervisedConfig(**kit.supervised_settings(tmp_path / "run", max_steps=2, trackers="tensorboard"))
    )
    assert all(set(SPEEDS) <= item.keys() for item in read_metrics(run))
    assert 0 < read_metrics(run)[0]["share_of_peak"] < 1
    assert list((run / "tracked").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("trackers", "message"), [("tensorbord", "does not know"), ("tensorboard,comet_ml", "needs the package comet_ml")]
)
def test_trackers_that_are_not_there_are_refused(kit, tmp_path, trackers, message):
    with pytest.raises(SettingError, match=message):
        train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path / "run", trackers=trackers)))


def test_ctrl_c_saves_the_step_and_the_same_command_goes_on(kit, tmp_path, monkeypatch):
    settings = kit.supervised_settings(tmp_path / "whole", epochs=2, save_every=0, tune="lora")
    whole = train_supervised(SupervisedConfig(**settings))
    real, calls = SupervisedObjective.losses, 0

    def interrupted(self, model, batch, media):
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, model, batch, media)

    monkeypatch.setattr(SupervisedObjective, "losses", interrupted)
    config = SupervisedConfig(**{**settings, "out": tmp_path / "stopped"})
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_supervised(config)
    assert signal.getsignal(signal.SIGINT) is handler
    assert [step for step, _ in RunDirectory(config.out).checkpoints()] == [3]
    train_supervised(config)
    stopped = weights_of(config.out)
    assert all(torch.equal(value, stopped[name]) for name, value in weights_of(whole).items())


def test_a_run_does_not_go_on_when_the_store_changed(tmp_path):
    kit = make_kit(tmp_path)
    config = PreferenceConfig(**kit.preference_settings(tmp_path / "run", epochs=1, pairing="independent"))
    train_preferences(config)
    (config.out / "final").rename(config.out / "old")
    table = negatives("audio")
    write_negatives(kit.store, "hard", "audio", table[:, ::-1].copy())
    with pytest.raises(DataError, match=r"The inputs that the run in .* began with changed since"):
        train_preferences(config)


def test_a_full_disk_under_the_metrics_is_one_sentence(kit, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    run = RunDirectory(tmp_path)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl can't be written: the disk is full"):
        run.log({"step": 1})


def test_a_sequence_past_the_context_names_its_row(kit, tmp_path):
    rows = [row.to_json() for row in instruction_rows()]
    rows[2] |= {"question": "What? " * 500}
    write_json_lines(tmp_path / "rows.jsonl", rows)
    settings = {**kit.supervised_settings(tmp_path / "run"), "data": tmp_path / "rows.jsonl"}
    with pytest.raises(PromptError, match=rf"Row {rows[2]['row_id']}: .*positions.*context"):
        train_supervised(SupervisedConfig(**settings))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["random-tensor", "diffused"])
def test_rejected_inputs_of_noise_train_and_are_the_same_each_time(kit, tmp_path, recipe):
    settings = kit.preference_settings(tmp_path / "run", epochs=1, max_steps=1, negatives=recipe)
    run = train_preferences(PreferenceConfig(**settings))
    assert read_metrics(run)[0]["input_margin"] == pytest.approx(0.0, abs=1e-4)
    store = FeatureStore.open(kit.store)
    own = store.video([2])[0]
    noisy = FeatureNoise(recipe, 0)("video", 2, own)
    assert torch.equal(noisy, FeatureNoise(recipe, 0)("video", 2, own))
    assert not torch.equal(noisy, FeatureNoise(recipe, 1)("video", 2, own))
    session = Session.open(PreferenceConfig(**settings))
    media = session.features([ScoreSpec("?", "!", -3, 1)]).media([ScoreSpec("?", "!", -3, 1)])
    assert torch.equal(media.video[-3], noisy)
    correlation = torch.corrcoef(torch.stack([own.float().flatten(), noisy.float().flatten()]))[0, 1].item()
    assert (abs(correlation) < 0.35) if recipe == "random-tensor" else (0.75 < correlation < 0.95)


def test_diffusion_follows_the_schedule_of_vcd():
    beta, left = 0.0, []
    for number in range(1000):
        beta = (5e-3 - 1e-5) / (1 + math.exp(6 - 12 * number / 999)) + 1e-5
        left.append((left[-1] if left else 1.0) * (1 - beta))
    for step in (0, 1, 500, 900, 999):
        assert signal_share(step) == pytest.approx(left[step], rel=1e-9)
    assert (round(signal_share(500), 3), round(signal_share(900), 3)) == (0.745, 0.133)


@pytest.mark.parametrize("step", [100, 500, 900])
def test_a_diffused_clip_keeps_the_share_of_its_variance_that_the_step_leaves(step):
    own = torch.randn(64, 512, generator=torch.Generator().manual_seed(3)) * 2 + 1
    noisy = FeatureNoise("diffused", 0, step)("video", 1, own)
    correlation = torch.corrcoef(torch.stack([own.flatten(), noisy.flatten()]))[0, 1].item()
    assert correlation**2 == pytest.approx(signal_share(step), abs=0.02)  # [32768] values
    assert noisy.std().item() == pytest.approx(own.std().item(), rel=0.02)
    assert str(FeatureNoise("diffused", 0, step)) != str(FeatureNoise("diffused", 0, step + 1))


def test_a_step_beyond_the_schedule_is_refused(kit, tmp_path):
    with pytest.raises(SettingError, match="diffusion_step"):
        PreferenceConfig(**kit.preference_settings(tmp_path / "run", diffusion_step=1000))
    with pytest.raises(SettingError, match="steps 0 to 999"):
        ContrastOptions(step=1000)


def test_the_plan_counts_what_attention_computes(kit, tmp_path):
    config = SupervisedConfig(**kit.supervised_settings(tmp_path, pairing="independent", tokens_per_batch=1))
    session = Session.open(config)
    rows = SupervisedTraining(config).examples(session, read_instructions(kit.data))
    lengths = [session.builder.length(row.spec) for row in rows]
    steps = session.plan_once(rows)
    assert sum(step.pairs for step in steps) == sum(length * (length + 1) // 2 for length in lengths)


def test_the_diffusion_step_belongs_to_runs_on_diffused_inputs_alone(kit, tmp_path):
    def identity(**changes):
        return PreferenceConfig(**kit.preference_settings(tmp_path / "run", **changes)).identity()

    assert identity() == identity(diffusion_step=900)  # so that a run from before this setting resumes
    assert identity(negatives="diffused") != identity(negatives="diffused", diffusion_step=900)
