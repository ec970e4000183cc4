"""Preference training end to end on a real store and a tiny model."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from avem.cache import FeatureStore, mine_negatives
from avem.errors import DataError, DivergedError, SettingError, StoreError, UnknownClipError
from avem.files import write_json_lines
from avem.train import load_model
from avem.train.data.examples import preference_examples
from avem.train.data.rows import read_preferences
from avem.train.packing.specs import SequenceBuilder
from avem.train.preference import train_preferences
from avem.train.settings.config import PreferenceConfig
from avem.train.settings.presets import PREFERENCE_PRESETS
from avem.train.settings.sources import build_config
from avem.train.stages import preview_stage
from tests.train.training_kit import CLIPS, Kit, make_kit, negatives, preference_rows, weights_of, write_negatives


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("preferences"))


@pytest.fixture(scope="module")
def trained(kit, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "dpo"
    return train_preferences(
        PreferenceConfig(**kit.preference_settings(out, epochs=8, learning_rate=1e-2, batch_size=12))
    )


def read_metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_margins_rewards_and_accuracy_rise(trained):
    metrics = read_metrics(trained)
    first, last = metrics[0], metrics[-1]
    assert last["loss"] < first["loss"]
    assert last["margin"] > first["margin"]
    assert last["reward_w"] - last["reward_vr"] > 0.1
    assert last["input_margin"] > first["input_margin"]


def test_before_the_first_update_policy_and_reference_agree(kit, trained):
    first = read_metrics(trained)[0]
    assert [first[name] for name in ("reward_w", "reward_vr", "reward_er", "reward_w_given_l")] == pytest.approx(
        [0.0] * 4, abs=1e-4
    )
    assert first["input_margin"] == pytest.approx(0.0, abs=1e-4)
    # then Eq. 5 is log 2 in every row, and Eq. 10 is a loss of the text prior's margin alone
    assert first["loss"] > math.log(2)


def test_only_the_adapter_is_trained_and_saved(kit, trained):
    assert (trained / "final" / "adapter_model.safetensors").is_file()
    base, after = load_model(kit.model).state_dict(), weights_of(trained)
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in after.items())
    for name, value in base.items():
        inside = name if name in after else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(after[inside], value), name


@pytest.mark.parametrize("name", [name for name in PREFERENCE_PRESETS if name != "paper"])
def test_every_preset_trains(kit, tmp_path, name):
    settings = kit.preference_settings(tmp_path / "run", epochs=1, max_steps=2)
    run = train_preferences(build_config(PreferenceConfig, settings, preset=PREFERENCE_PRESETS[name]))
    metrics = read_metrics(run)
    assert len(metrics) == 2
    assert all(math.isfinite(value) for item in metrics for value in item.values())


def test_presets_score_only_what_they_need(tmp_path):
    kit, counts = make_kit(tmp_path), {}
    mine_negatives(FeatureStore.open(kit.store), "random-emotion", k=4, seed=0)  # The `paper-exact` preset reads them.
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    for name, values in PREFERENCE_PRESETS.items():
        config = build_config(PreferenceConfig, kit.preference_settings(Path("unused")), preset=values)
        examples = preference_examples(read_preferences(kit.prefs), store, SequenceBuilder(model, store), config)
        counts[name] = {len(example.specs) for example in examples}
    assert counts["paper"] == counts["vista-dpo"] == counts["er-irr"] == {4}
    assert counts["naive-dpo"] == {2}
    assert counts["no-pmp"] == counts["no-erp"] == counts["only-er"] == {3}


def test_the_prompts_modality_decides_what_is_replaced(kit):
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    builder, rows = SequenceBuilder(model, store), read_preferences(kit.prefs)
    config = PreferenceConfig(**kit.preference_settings(Path("unused")))
    for row, example in zip(rows, preference_examples(rows, store, builder, config), strict=True):
        own, other = example.scores["w"], example.scores["w_given_l"]
        assert (own.video != other.video) == (row.modality in ("visual", "audiovisual"))
        assert (own.audio != other.audio) == (row.modality in ("audio", "audiovisual"))
        assert example.partner in negatives({"visual": "video"}.get(row.modality, row.modality))[example.clip]
    config = PreferenceConfig(**kit.preference_settings(Path("unused"), rejected_input="both", lambda_av=0.5))
    rows = [row for row in rows if row.clip_id != "toy/007"]
    for example in preference_examples(rows, store, builder, config):
        own, other = example.scores["w"], example.scores["w_given_l"]
        assert own.video != other.video
        assert own.audio != other.audio


@pytest.mark.parametrize("pairing", ["grouped", "independent"])
def test_pairings_train_the_same_rows(kit, tmp_path, pairing):
    settings = kit.preference_settings(tmp_path / "run", epochs=1, pairing=pairing, batch_size=100)
    first = read_metrics(train_preferences(PreferenceConfig(**settings)))[0]
    settings = {**settings, "out": tmp_path / "mutual", "pairing": "mutual"}
    mutual = read_metrics(train_preferences(PreferenceConfig(**settings)))[0]
    assert first["rows"] == mutual["rows"] == len(preference_rows())
    assert first["loss"] == pytest.approx(mutual["loss"], rel=1e-5)
    assert first["grad_norm"] == pytest.approx(mutual["grad_norm"], rel=1e-4)


def test_preview_says_what_sharing_saves(kit, tmp_path):
    summary = preview_stage(PreferenceConfig(**kit.preference_settings(tmp_path / "run", epochs=1)))
    assert summary.rows == len(preference_rows())
    assert summary.saving > 3
    assert not (tmp_path / "run").exists()


def rewritten(kit: Kit, folder: Path, **changes) -> PreferenceConfig:
    rows = [row.to_json() for row in preference_rows()]
    rows[3] |= changes
    write_json_lines(folder / "prefs.jsonl", rows)
    return PreferenceConfig(**{**kit.preference_settings(folder / "run"), "prefs": folder / "prefs.jsonl"})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clip_id": "toy/100"}, UnknownClipError, "Row 1-visual names the clip toy/100"),
        ({"clip_id": "toy/007", "modality": "audio"}, DataError, "clip toy/007 has no audio"),
        ({"chosen": ""}, DataError, "line 4.*row 1-visual has an empty chosen"),
        ({"chosen": "the wall, 1"}, DataError, "line 4.*equals its chosen answer"),
        ({"modality": "smell"}, DataError, "line 4.*smell"),
    ],
)
def test_a_bad_row_is_refused_before_anything_is_written(kit, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train_preferences(rewritten(kit, tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_a_clip_without_negative_is_refused(tmp_path):
    kit = make_kit(tmp_path)
    table = negatives("audio")
    table[2] = -1
    write_negatives(kit.store, "hard", "audio", table)
    with pytest.raises(DataError, match="Row 2-audio: the clip toy/002 has no audio negative in the recipe hard; add"):
        train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "run")))
    with pytest.raises(StoreError, match="avem cache negatives"):
        train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "run", negatives="my-own")))


def test_negatives_are_mined_where_the_store_has_none(tmp_path):
    kit = make_kit(tmp_path)
    settings = kit.preference_settings(tmp_path / "run", negatives="random-emotion")
    train_preferences(PreferenceConfig(**settings))
    assert (FeatureStore.open(kit.store).negatives("random-emotion", "video") >= 0).any()


def test_a_negative_that_lacks_the_stream_is_not_used(tmp_path):
    kit = make_kit(tmp_path)
    table = negatives("audio")
    table[2] = [CLIPS - 1, 0]
    write_negatives(kit.store, "hard", "audio", table)
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    config = PreferenceConfig(**kit.preference_settings(tmp_path / "run"))
    examples = preference_examples(read_preferences(kit.prefs), store, SequenceBuilder(model, store), config)
    assert next(example for example in examples if example.row_id == "2-audio").partner == 0


def test_a_model_in_memory_can_not_be_the_base_of_an_adapter(kit, tmp_path):
    model = load_model(kit.model)
    model.source = ""
    with pytest.raises(SettingError, match="in memory only"):
        train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "run")), model)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_rows(kit, tmp_path, monkeypatch):
    from avem.train.preference import PreferenceObjective

    real = PreferenceObjective.losses
    steps = 0

    def broken(self, model, batch, media):
        nonlocal steps
        steps += 1
        losses, metrics = real(self, model, batch, media)
        return (losses * torch.where(torch.arange(len(batch)) == 0, math.nan, 1.0) if steps > 3 else losses), metrics

    monkeypatch.setattr(PreferenceObjective, "losses", broken)
    settings = kit.preference_settings(tmp_path / "run", save_every=1, batch_size=1)
    with pytest.raises(DivergedError, match=r"loss of row \d-\w+ is not finite at step 4; .*step-3 is the last good"):
        train_preferences(PreferenceConfig(**settings))
    assert not (tmp_path / "run" / "final").exists()
    assert len(read_metrics(tmp_path / "run")) == 3


def train_one_rank(settings: dict, rank: int, world: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    train_preferences(PreferenceConfig(**settings))


def test_two_processes_train_as_one_does(kit, tmp_path):
    # two processes of six rows make the same steps as one of twelve
    settings = kit.preference_settings(tmp_path / "two", epochs=1, batch_size=6, learning_rate=1e-3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avem.train.preference"])
    children = [context.Process(target=train_one_rank, args=(settings, rank, 2, port)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    one = kit.preference_settings(tmp_path / "one", epochs=1, batch_size=12, learning_rate=1e-3)
    train_preferences(PreferenceConfig(**one))
    alone, together = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    for name in ("loss", "margin", "grad_norm", "rows"):
        np.testing.assert_allclose([m[name] for m in together], [m[name] for m in alone], rtol=1e-4, atol=1e-5)
    for name, value in weights_of(tmp_path / "one").items():
        torch.testing.assert_close(weights_of(tmp_path / "two")[name], value, rtol=1e-3, atol=1e-4)
