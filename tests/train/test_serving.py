"""What a run is scored on, what it records and what it refuses: dates, dropout, encoders, special tokens, code."""

from __future__ import annotations

import json
import logging
import math
from datetime import datetime
from pathlib import Path

import pytest
import torch
import transformers.utils.chat_template_utils as templates
from model_kit import CHAT_TEMPLATE, byte_tokenizer, tiny_config, tiny_language_model, tiny_model

from avem.errors import CheckpointError, FingerprintError, PromptError
from avem.evaluate import bench_emorealm
from avem.files import json_sha256, write_json_lines
from avem.records import Question
from avem.train import AudiovisualLM, load_model
from avem.train.objective.constants import spec_key
from avem.train.packing.specs import ScoreSpec
from avem.train.preference import train_preferences
from avem.train.run.session import Session
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import Kit, instruction_rows, make_kit, make_store, preference_rows

DATED = "<|im_start|>system\nToday is {{ strftime_now('%d %b %Y') }}.<|im_end|>\n" + CHAT_TEMPLATE
QUESTIONS = [Question("q1", "000.mp4", "toy", "What?", ("(A) a cue", "(B) a boat"), "A")]


@pytest.fixture
def kit(tmp_path) -> Kit:
    return make_kit(tmp_path)


def first_step(run: Path) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])


def move_clock(monkeypatch, day: int) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, day)

    monkeypatch.setattr(templates, "datetime", Clock)


def save_chat_model(kit: Kit, template: str) -> None:
    model = tiny_model(dtype=torch.float32, video_projector="linear", audio_projector="stack-mlp", prompt_format="chat")
    model.tokenizer.chat_template = template
    model.save(kit.model)


def test_a_template_with_a_date_starts_both_runs_at_the_reference(kit, tmp_path, monkeypatch):
    save_chat_model(kit, DATED)
    for day in (3, 29):
        move_clock(monkeypatch, day)
        run = train_preferences(
            PreferenceConfig(**kit.preference_settings(tmp_path / f"run-{day}", max_steps=1, gamma_tpd=0.0))
        )
        assert first_step(run)["loss"] == pytest.approx(2 * math.log(2), abs=1e-5)
        assert first_step(run)["margin"] == pytest.approx(0, abs=1e-5)


def test_prompts_of_every_day_are_the_same(monkeypatch):
    model = tiny_model(prompt_format="chat")
    model.tokenizer.chat_template = DATED
    made = []
    for day in (3, 29):
        move_clock(monkeypatch, day)
        made.append(model.sequence("Why?", "So.").ids.tolist())
    assert made[0] == made[1]
    assert "Today is 26 Jul 2024." in model.tokenizer.decode(made[0])


def test_scores_are_keyed_by_what_was_rendered(kit):
    """A template may differ by something else than the date: a clock that is not read through strftime_now."""
    save_chat_model(kit, CHAT_TEMPLATE)
    config = PreferenceConfig(**kit.preference_settings(Path("unused")))
    keys = []
    for template in (CHAT_TEMPLATE, "Hello. " + CHAT_TEMPLATE):
        session = Session.open(config)
        session.model.tokenizer.chat_template = template
        row = preference_rows()[0]
        keys.append(spec_key(ScoreSpec(row.question, row.chosen, 0, 0), session.input_names, session.builder))
    assert keys[0] != keys[1]


def test_names_of_inputs_hold_their_content_and_the_row_that_decides_the_noise(kit):
    config = PreferenceConfig(**kit.preference_settings(Path("unused"), negatives="diffused", seed=3))
    names = Session.open(config).input_names
    assert names[2] == f"toy/002 {2:064x}"
    assert names[-3] == f"toy/002 {2:064x} diffused step 500 3 2"


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_base_with_dropout_agrees_with_its_reference(kit, tmp_path, tune, checkpointed):
    language_model = tiny_language_model(attention_dropout=0.5).float()
    config = tiny_config(video_projector="linear", audio_projector="stack-mlp")
    AudiovisualLM.create(language_model, byte_tokenizer(), config, seed=1).save(kit.model)
    settings = kit.preference_settings(
        tmp_path / "run",
        max_steps=1,
        gamma_tpd=0.0,
        tune=tune,
        gradient_checkpointing=checkpointed,
    )
    found = first_step(train_preferences(PreferenceConfig(**settings)))
    assert found["loss"] == pytest.approx(2 * math.log(2), abs=1e-4)
    assert found["margin"] == pytest.approx(0, abs=1e-4)
    assert found["grad_norm"] > 0


@pytest.mark.parametrize("projectors", [False, True])
@pytest.mark.parametrize("kind", ["preference", "supervised"])
def test_every_run_records_its_features_and_refuses_others(tmp_path, kind, projectors):
    kit = make_kit(tmp_path)
    changes = {"max_steps": 1, "tune": "lora", "train_projectors": projectors}
    if kind == "preference":
        run = train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "run", **changes)))
    else:
        run = train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path / "run", **changes)))
    model = load_model(run)
    other = make_store(tmp_path / "other", made_by="another encoder of the same width")
    here = json_sha256(make_store(tmp_path / "same").fingerprint("video"))
    there = json_sha256(other.fingerprint("video"))
    assert model.config.video_fingerprint == here
    with pytest.raises(FingerprintError, match=rf"{there[:12]}.*{here[:12]}"):
        bench_emorealm(model, other, QUESTIONS)
    settings = {
        **kit.preference_settings(tmp_path / "next", max_steps=1),
        "model": str(run),
        "cache": tmp_path / "other",
    }
    with pytest.raises(FingerprintError, match=rf"{there[:12]}.*{here[:12]}"):
        train_preferences(PreferenceConfig(**settings))


def test_an_old_run_without_a_record_is_used_with_a_warning(kit, tmp_path, caplog):
    run = train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "run", max_steps=1)))
    file = run / "final" / "config.json"
    content = json.loads(file.read_text())
    content["audiovisual"] |= {"video_fingerprint": "", "audio_fingerprint": ""}
    file.write_text(json.dumps(content))
    (run / "final" / "checksums.json").unlink()  # as before checksums
    with caplog.at_level(logging.WARNING):
        bench_emorealm(load_model(run), make_store(tmp_path / "other", made_by="x"), QUESTIONS, generate=False)
    assert "does not say which video features it was trained on" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Session.open(PreferenceConfig(**kit.preference_settings(tmp_path / "new")))
    assert "could not be checked" not in caplog.text  # a base that nobody trained here


SPECIAL = ["</s>", "<s>", "<|im_end|>", "<image>", "<video>", "<audio>", "<|eot_id|>", "<unk>", "\ue001"]


@pytest.mark.parametrize("token", SPECIAL)
@pytest.mark.parametrize("field", ["question", "chosen", "rejected_video_relevant", "rejected_emotion_relevant"])
def test_a_special_token_in_a_preference_row_is_refused_by_name(kit, tmp_path, field, token):
    rows = [row.to_json() for row in preference_rows()]
    rows[4][field] += f" and {token} more"
    write_json_lines(kit.prefs, rows)
    with pytest.raises(PromptError) as caught:
        train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "run")))
    assert all(part in str(caught.value) for part in (rows[4]["row_id"], field, repr(token)))
    assert not (tmp_path / "run").exists()


def test_a_token_that_only_this_tokenizer_has_is_refused_in_an_instruction(kit, tmp_path):
    model = load_model(kit.model)
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["@@turn@@"]})
    model.language_model.resize_token_embeddings(310)
    rows = [row.to_json() for row in instruction_rows()]
    rows[2]["answer"] = "one @@turn@@ two"
    write_json_lines(kit.data, rows)
    model.save(tmp_path / "model")
    settings = {**kit.supervised_settings(tmp_path / "run"), "model": str(tmp_path / "model")}
    with pytest.raises(PromptError, match=rf"Row {rows[2]['row_id']}: its answer holds '@@turn@@'"):
        train_supervised(SupervisedConfig(**settings))


@pytest.mark.parametrize(
    "question",
    [
        Question("q7", "000.mp4", "toy", "What</s>?", ("(A) a cue", "(B) a boat"), "A"),
        Question("q7", "000.mp4", "toy", "What?", ("(A) a cue", "(B) <|im_start|>"), "A"),
    ],
)
def test_a_special_token_in_a_benchmark_is_refused_by_name(kit, question):
    with pytest.raises(PromptError, match=r"Question q7: its (question|choices) holds '<"):
        bench_emorealm(load_model(kit.model), make_store(kit.store.parent / "again"), [question])


def with_code(folder: Path, model_type: str, marker: Path) -> None:
    """Give a checkpoint Python code that leaves a mark if it ever runs."""
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    for name, classes in (
        ("config.json", {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}),
    ):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = classes
        if name == "config.json":
            content["model_type"] = model_type
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("model_type", ["evil", "llama"])
def test_no_code_of_a_checkpoint_ever_runs(kit, tmp_path, model_type, monkeypatch, caplog):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what `yes |` would answer
    marker = tmp_path / "ran"
    from avem.train.model.language_models import empty_language_model, load_language_model
    from avem.train.model.tokenizers import load_tokenizer

    folder = kit.model / "language_model"
    with_code(folder, model_type, marker)
    for load in (load_language_model, empty_language_model, load_tokenizer):
        if model_type == "evil":
            with pytest.raises(CheckpointError, match=r"own Python code \(auto_map in config.json\)"):
                load(folder)
        else:
            load(folder)
            assert "which is not run" in caplog.text
    assert not marker.exists()
