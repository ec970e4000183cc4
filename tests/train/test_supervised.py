"""Supervised training on a real store and a tiny model: it learns, it saves, and it is what it says it is."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import DataError, FingerprintError, PromptError, SettingError, UnknownClipError
from avem.files import write_json_lines
from avem.train import load_model
from avem.train.data.examples import instruction_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import read_instructions
from avem.train.packing.specs import SequenceBuilder
from avem.train.run.optimizer import rate_factor
from avem.train.settings.config import SupervisedConfig
from avem.train.stages import preview_stage
from avem.train.supervised import train_supervised
from tests.train.model_kit import tiny_model
from tests.train.training_kit import Kit, instruction_rows, make_kit, make_store, weights_of


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("supervised"))


@pytest.fixture(scope="module")
def trained(kit, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "sft"
    return train_supervised(SupervisedConfig(**kit.supervised_settings(out, epochs=6, learning_rate=3e-3)))


def read_metrics(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_every_step_is_logged(trained):
    metrics = read_metrics(trained)
    assert [item["step"] for item in metrics] == list(range(1, len(metrics) + 1))
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert {"loss", "lr", "grad_norm", "rows_per_s", "tokens_per_s", "time_left_s"} <= metrics[0].keys()


def test_the_first_loss_is_the_mean_over_answer_tokens(kit, tmp_path):
    config = SupervisedConfig(**kit.supervised_settings(tmp_path / "run", epochs=1, batch_size=100))
    run = train_supervised(config)
    model, store = load_model(kit.model), FeatureStore.open(kit.store)
    builder = SequenceBuilder(model, store)
    specs = [row.spec for row in instruction_examples(read_instructions(kit.data), store, builder)]
    media = ClipFeatures(store, specs, torch.device("cpu"), 100).media(specs)
    with torch.no_grad():
        total = -model.response_logprobs([builder.sequence(spec, media) for spec in specs], share_prefixes=False).sum()
    tokens = sum(len(row.answer.encode()) + 2 for row in instruction_rows())  # a space before, an end after
    assert read_metrics(run)[0]["loss"] == pytest.approx(total.item() / tokens, rel=1e-5)


def test_the_result_loads_and_knows_its_features(kit, trained):
    model, base = load_model(trained / "final"), load_model(kit.model)
    assert model.config.video_fingerprint
    before, after = base.state_dict(), model.state_dict()
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    assert any(name.startswith("video_projector.") for name in changed)
    assert any(name.startswith("language_model.") for name in changed)


def test_the_run_says_what_it_was_made_of(trained):
    record = json.loads((trained / "config.json").read_text())
    assert record["settings"]["learning_rate"] == 3e-3
    assert {"torch", "transformers", "avem"} <= record["environment"].keys()


def test_a_complete_run_is_left_alone(kit, trained):
    before = (trained / "metrics.jsonl").stat().st_mtime_ns
    assert (
        train_supervised(SupervisedConfig(**kit.supervised_settings(trained, epochs=6, learning_rate=3e-3))) == trained
    )
    assert (trained / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_complete_run_is_not_taken_for_one_of_another_model(kit, tmp_path):
    settings = kit.supervised_settings(tmp_path / "run", max_steps=1)
    run = train_supervised(SupervisedConfig(**settings))
    same = shutil.copytree(kit.model, tmp_path / "same")
    assert train_supervised(SupervisedConfig(**{**settings, "model": str(same)})) == run
    other = tmp_path / "other"
    tiny_model(dtype=torch.float32, video_projector="mlp2x_gelu", audio_projector="stack-mlp").save(other)
    with pytest.raises(DataError, match=r"model that the run .* changed since"):
        train_supervised(SupervisedConfig(**{**settings, "model": str(other)}))


def test_a_used_directory_is_refused_under_other_settings(kit, trained, tmp_path):
    with pytest.raises(SettingError, match=r"other settings \(learning_rate was 0.003, now 0.1\)"):
        train_supervised(SupervisedConfig(**kit.supervised_settings(trained, epochs=6, learning_rate=0.1)))
    with pytest.raises(SettingError, match="holds a run"):
        train_supervised(
            SupervisedConfig(**kit.supervised_settings(trained, epochs=6, learning_rate=3e-3, resume=False))
        )
    (tmp_path / "letters").write_text("mine")
    with pytest.raises(SettingError, match="are not a run"):
        train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path)))


def test_projectors_alone_leave_the_language_model_as_it_was(kit, tmp_path):
    settings = kit.supervised_settings(tmp_path / "run", tune="none", epochs=1)
    run = train_supervised(SupervisedConfig(**settings))
    before, after = load_model(kit.model).state_dict(), weights_of(run)
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"video_projector", "audio_projector"}


def test_features_read_step_by_step_give_the_same_weights(kit, tmp_path):
    weights = []
    for keep in (0, 100):
        settings = kit.supervised_settings(tmp_path / str(keep), epochs=1, keep_features_mb=keep)
        weights.append(weights_of(train_supervised(SupervisedConfig(**settings))))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_bf16_and_gradient_checkpointing_train(kit, tmp_path):
    plain = train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path / "plain", epochs=1)))
    settings = kit.supervised_settings(tmp_path / "run", epochs=1, precision="bf16", gradient_checkpointing=True)
    run = train_supervised(SupervisedConfig(**settings))
    assert read_metrics(run)[-1]["loss"] == pytest.approx(read_metrics(plain)[-1]["loss"], rel=0.05)


def test_preview_counts_and_writes_nothing(kit, tmp_path):
    summary = preview_stage(SupervisedConfig(**kit.supervised_settings(tmp_path / "run", epochs=1)))
    assert summary.rows == len(instruction_rows())
    assert summary.saving > 1
    assert not (tmp_path / "run").exists()


def rewritten(kit: Kit, folder, **changes) -> dict:
    rows = [row.to_json() for row in instruction_rows()]
    rows[3] |= changes
    write_json_lines(folder / "rows.jsonl", rows)
    return {**kit.supervised_settings(folder / "run"), "data": folder / "rows.jsonl"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clip_id": "toy/100"}, UnknownClipError, "names the clip toy/100"),
        ({"clip_id": "toy/007", "modality": "audio"}, DataError, "clip toy/007 has no audio"),
        ({"clip_id": "toy/007", "modality": "audiovisual"}, DataError, "clip toy/007 has no audio"),
        ({"answer": " "}, DataError, r"line 4.*empty answer"),
        ({"modality": "smell"}, DataError, r"line 4.*smell"),
        ({"row_id": "0-visual"}, DataError, "two rows with the row_id 0-visual"),
        ({"question": "why " * 2000}, PromptError, "1-visual.*positions"),
        ({"question": "<video> what?"}, PromptError, "1-visual.*<video>"),
    ],
)
def test_a_bad_row_is_refused_before_anything_is_written(kit, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train_supervised(SupervisedConfig(**rewritten(kit, tmp_path, **changes)))
    assert not (tmp_path / "run").exists()


def test_features_of_another_encoder_are_refused(kit, trained, tmp_path):
    other = tmp_path / "cache"
    make_store(other, made_by="other")
    settings = {**kit.supervised_settings(tmp_path / "run"), "cache": other, "model": str(trained / "final")}
    with pytest.raises(FingerprintError, match="same encoder"):
        train_supervised(SupervisedConfig(**settings))


def test_the_rate_rises_then_falls():
    assert [rate_factor(step, 10, 0.2, "constant") for step in (0, 1, 2, 9)] == [1 / 3, 2 / 3, 1.0, 1.0]
    assert [rate_factor(step, 10, 0.2, "linear") for step in (2, 6, 9)] == [1.0, 0.5, 0.125]
    assert rate_factor(6, 10, 0.2, "cosine") == pytest.approx(0.5)
    assert rate_factor(0, 1, 0.0, "cosine") == 1.0
