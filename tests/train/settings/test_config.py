"""Settings: presets, files and overrides in their order of precedence, and refusals that name the option."""

from __future__ import annotations

import dataclasses
import json

import pytest

from avem.errors import DataError, MissingFileError, SettingError
from avem.tools.demo import presets as demo
from avem.tools.project.proof.ground import presets as proof
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.settings.presets import PREFERENCE_PRESETS, SUPERVISED_PRESETS, preset
from avem.train.settings.sources import build_config, parse_override

PATHS = {"cache": "cache", "model": "model", "out": "run", "prefs": "prefs.jsonl"}
SUPERVISED_PATHS = {"cache": "cache", "model": "model", "out": "run", "data": "rows.jsonl"}


def test_defaults_are_the_papers():
    config = PreferenceConfig(**PATHS)
    assert (config.beta, config.beta_vr, config.beta_er) == (0.1, 0.5, 0.5)
    assert (config.gamma_tpd, config.lambda_av) == (0.2, 1.0)
    assert (config.learning_rate, config.epochs) == (5e-7, 1)
    assert (config.lora_rank, config.lora_scale) == (8, 4.0)
    assert (config.batch_size, config.accumulation) == (2, 4)


def test_later_sources_win(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("beta = 0.3\nlambda_av = 2\nseed = 1\n")
    config = build_config(
        PreferenceConfig,
        {**PATHS, "seed": 2},
        preset=preset(PREFERENCE_PRESETS, "no-pmp"),
        file=file,
        overrides=["beta=0.4"],
    )
    assert (config.lambda_av, config.seed, config.beta) == (2.0, 2, 0.4)


@pytest.mark.parametrize("name", PREFERENCE_PRESETS)
def test_every_preference_preset_is_valid_and_survives_json(name):
    config = build_config(PreferenceConfig, PATHS, preset=PREFERENCE_PRESETS[name])
    assert PreferenceConfig(**json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("name", SUPERVISED_PRESETS)
def test_every_supervised_preset_is_valid_and_survives_json(name):
    config = build_config(SupervisedConfig, SUPERVISED_PATHS, preset=SUPERVISED_PRESETS[name])
    assert SupervisedConfig(**json.loads(json.dumps(config.to_json()))) == config


def test_rivals_and_ablations_differ_from_the_paper_as_the_paper_says():
    made = {name: build_config(PreferenceConfig, PATHS, preset=values) for name, values in PREFERENCE_PRESETS.items()}
    assert made["paper"] == PreferenceConfig(**PATHS)
    assert (made["naive-dpo"].gamma_tpd, made["naive-dpo"].lambda_av, made["naive-dpo"].rejected) == (0, 0, "random")
    assert (made["vista-dpo"].gamma_tpd, made["vista-dpo"].rejected_input) == (0, "both")
    assert made["only-er"].rejected_weights == {"er": 1.0}
    assert made["er-irr"].rejected_weights == {"er": 0.7, "irr": 0.3}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("beta", 0),
        ("beta", "0.1"),
        ("beta", float("nan")),
        ("beta_vr", -1),
        ("epochs", 1.5),
        ("epochs", True),
        ("warmup", 1.0),
        ("schedule", "step"),
        ("pairing", "random"),
        ("resume", 1),
        ("lora_rank", 0),
        ("max_steps", 0),
        ("keep_checkpoints", 0),
        ("rejected_input", "video"),
        ("precision", "fp16"),
    ],
)
def test_a_bad_value_is_refused_by_name(setting, value):
    with pytest.raises(SettingError, match=rf"^{setting} is "):
        PreferenceConfig(**{**PATHS, setting: value})


def test_contradictions_are_refused():
    with pytest.raises(SettingError, match="tune=none"):
        PreferenceConfig(**PATHS, tune="none")
    with pytest.raises(SettingError, match="projector_learning_rate needs train_projectors"):
        PreferenceConfig(**PATHS, projector_learning_rate=1e-3)
    with pytest.raises(SettingError, match="no answer is rejected"):
        PreferenceConfig(**PATHS, beta_vr=0.0, beta_er=0.0)
    with pytest.raises(SettingError, match="pairing=mutual"):
        SupervisedConfig(**SUPERVISED_PATHS, pairing="mutual")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5; it must be a share of wrong preferences"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing is for loss=sigmoid or loss=robust"),
        ({"loss": "robust"}, "loss=robust without label_smoothing is loss=sigmoid"),
        ({"target_margin": 1.0}, "target_margin is SimPO's"),
        ({"loss": "simpo"}, "loss=simpo has no reference and no prior, and gamma_tpd needs one; set gamma_tpd=0"),
        ({"loss": "simpo", "gamma_tpd": 0.0}, "lambda_av needs one; set lambda_av=0"),
        ({"loss": "ipo", "invariance": 0.1}, "invariance and sensitivity follow from a sigmoid"),
        ({"streams": "audio", "invariance": 0.1}, "set streams=both, not audio"),
        ({"sensitivity": 0.1}, r"sensitivity is 0.1; it must be below beta \+ invariance = 0.1"),
        ({"anchor": -1.0}, "anchor is -1.0; it must be 0 or more"),
    ],
)
def test_parts_of_objectives_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(SettingError, match=message) as refused:
        PreferenceConfig(**PATHS, **changes)
    assert "\n" not in str(refused.value)


def test_settings_of_rivals_count_only_where_they_are_used():
    before = PreferenceConfig(**PATHS).identity()
    assert not {"loss", "label_smoothing", "target_margin", "anchor", "nll", "invariance"} & before.keys()
    assert PreferenceConfig(**PATHS, anchor=1.0).identity() == {**before, "anchor": 1.0}


def test_unknown_options_and_presets_say_what_there_is(tmp_path):
    with pytest.raises(SettingError, match="no option lambda; did you mean lambda_av"):
        build_config(PreferenceConfig, PATHS, overrides=["lambda=1"])
    with pytest.raises(SettingError, match=r"no preset dpo; choose one of paper"):
        preset(PREFERENCE_PRESETS, "dpo")
    with pytest.raises(SettingError, match="has no value"):
        build_config(PreferenceConfig, PATHS, overrides=["beta"])
    with pytest.raises(SettingError, match="missing"):
        build_config(PreferenceConfig, {"cache": "cache"})
    with pytest.raises(MissingFileError, match="no settings file"):
        build_config(PreferenceConfig, PATHS, file=tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("beta = = 1")
    with pytest.raises(DataError, match="is not TOML"):
        build_config(PreferenceConfig, PATHS, file=broken)


def test_overrides_are_read_as_toml_or_text():
    assert parse_override("beta=0.2") == ("beta", 0.2)
    assert parse_override("resume = false") == ("resume", False)
    assert parse_override('model="a=b"') == ("model", "a=b")
    assert parse_override("model=org/name") == ("model", "org/name")


def test_a_run_may_go_on_with_other_housekeeping_but_not_with_other_mathematics():
    config = PreferenceConfig(**PATHS)
    assert dataclasses.replace(config, keep_checkpoints=9, save_every=1).identity() == config.identity()
    assert dataclasses.replace(config, beta=0.2).identity() != config.identity()


def test_presets_of_the_demo_and_the_proof_are_not_among_the_users():
    for presets in (PREFERENCE_PRESETS, SUPERVISED_PRESETS):
        with pytest.raises(SettingError) as refused:
            preset(presets, "proof")
        assert "proof," not in str(refused.value)
        assert "demo" not in str(refused.value)


@pytest.mark.parametrize("values", [demo.PREFERENCE, *proof.PREFERENCE.values()])
def test_preference_settings_of_the_demo_and_the_proof_are_valid(values):
    assert build_config(PreferenceConfig, PATHS, preset=values).learning_rate > 0


@pytest.mark.parametrize("values", [demo.SUPERVISED, *proof.SUPERVISED.values()])
def test_supervised_settings_of_the_demo_and_the_proof_are_valid(values):
    assert build_config(SupervisedConfig, SUPERVISED_PATHS, preset=values).learning_rate > 0
