"""Objectives beyond the paper's on a store: packed as unpacked, resumed as undisturbed, constants only where needed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from avem.cache import FeatureStore
from avem.train.answers import score_specs
from avem.train.data.examples import PreferenceExample, preference_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import read_preferences
from avem.train.objective import preference
from avem.train.objective.constants import spec_key
from avem.train.objective.preference import PreferenceObjective
from avem.train.packing.specs import SequenceBuilder
from avem.train.preference import cache_logprobs, train_preferences
from avem.train.run.loop import Loop
from avem.train.run.rewards import last_rewards, reward_warnings
from avem.train.run.session import Session
from avem.train.run.watch import SPEEDS
from avem.train.settings.config import PreferenceConfig
from avem.train.settings.presets import PREFERENCE_PRESETS
from avem.train.settings.sources import build_config
from tests.train.families.test_door import exact_norm
from tests.train.model_kit import tiny_model
from tests.train.objective.test_constants import scored  # noqa: F401 - a fixture
from tests.train.training_kit import Kit, make_kit, weights_of

RIVALS = tuple(PREFERENCE_PRESETS)[tuple(PREFERENCE_PRESETS).index("avem-dpo-split") :]


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("rivals"))


@pytest.fixture(scope="module")
def model():
    return tiny_model(video_projector="linear", audio_projector="stack-mlp")


def config_of(kit: Kit, name: str, **changes) -> PreferenceConfig:
    settings = kit.preference_settings(changes.pop("out", Path("unused")), **changes)
    return build_config(PreferenceConfig, settings, preset=PREFERENCE_PRESETS[name])


def examples_of(kit: Kit, model, config: PreferenceConfig) -> tuple[SequenceBuilder, list[PreferenceExample]]:
    store = FeatureStore.open(kit.store)
    builder = SequenceBuilder(model, store)
    return builder, preference_examples(read_preferences(kit.prefs), store, builder, config)


@pytest.mark.parametrize("name", RIVALS)
def test_packed_rows_have_the_losses_and_gradients_of_rows_scored_one_sequence_at_a_time(kit, model, name, monkeypatch):
    monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    config = config_of(kit, name)
    builder, examples = examples_of(kit, model, config)
    examples = examples[:6] + examples[-1:]  # two clips, and the silent one
    features = ClipFeatures(FeatureStore.open(kit.store), [s for row in examples for s in row.specs], model.device, 100)
    constants = {
        spec: -50.0 - n for row in examples for n, spec in enumerate((*row.scores.values(), *row.texts.values()))
    }
    objective = PreferenceObjective(examples, builder, constants, config)
    parts = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for share in (True, False):
        monkeypatch.setattr(preference, "score_specs", partial(score_specs, share_prefixes=share))
        losses, metrics = objective.losses(model, tuple(range(len(examples))), features.media([]))
        gradients = torch.autograd.grad(losses.sum(), parts, allow_unused=True)
        found.append((losses.detach(), metrics, gradients))
    (packed, metrics, own), (single, others, other) = found
    assert packed.dtype == torch.float64
    torch.testing.assert_close(packed, single, atol=1e-9, rtol=0)
    for mine, theirs in zip(own, other, strict=True):
        if mine is not None or theirs is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)
    for metric in metrics:
        torch.testing.assert_close(metrics[metric], others[metric], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["avem-dpo-split", "mod-dpo-plus", "omni-dpo", "simpo"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(kit, tmp_path, name, monkeypatch):
    settings = {"epochs": 1, "save_every": 1, "max_steps": 4, "learning_rate": 1e-2}
    whole = train_preferences(config_of(kit, name, out=tmp_path / "whole", **settings))
    real = Loop.step

    def stopped(self, number, media, stop=None):
        if number == 2:
            raise KeyboardInterrupt
        return real(self, number, media, stop)

    config = config_of(kit, name, out=tmp_path / "stopped", **settings)
    monkeypatch.setattr(Loop, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_preferences(config)
    monkeypatch.setattr(Loop, "step", real)
    resumed = train_preferences(config)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert logged(resumed) == logged(whole)


def logged(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in SPEEDS} for line in lines]


def test_what_is_replaced_follows_from_the_question(kit, model):
    config = config_of(kit, "mod-dpo")
    _, examples = examples_of(kit, model, config)
    rows = read_preferences(kit.prefs)
    for row, example in zip(rows, examples, strict=True):
        own = example.scores["w"]
        relevant = example.corrupted["w_relevant"]
        assert (relevant.video != own.video) == ("video" in row.modality.streams)
        assert (relevant.audio != own.audio) == ("audio" in row.modality.streams)
        both = own.video is not None and own.audio is not None
        assert ("w_irrelevant" in example.corrupted) == (both and row.modality != "audiovisual")
        if "w_irrelevant" in example.corrupted:
            irrelevant = example.corrupted["w_irrelevant"]
            assert (irrelevant.video != own.video) == ("video" not in row.modality.streams)
            assert (irrelevant.audio != own.audio) == ("audio" not in row.modality.streams)
        assert len(example.weights) == 1
        assert {name.partition("_")[0] for name in example.corrupted} == {"w", *example.weights}


def test_each_side_is_replaced_by_itself(kit, model):
    _, examples = examples_of(kit, model, config_of(kit, "omni-dpo"))
    for example in examples:
        own = example.scores["w"]
        assert ("w_given_audio" in example.scores) == (own.audio is not None)
        without_video = example.scores["w_given_video"]
        assert (without_video.video, without_video.audio) == (example.partner, own.audio)
        if own.audio is not None:
            without_audio = example.scores["w_given_audio"]
            assert (without_audio.video, without_audio.audio) == (own.video, example.partner)


def test_scores_of_different_inputs_have_different_keys(kit):
    config = config_of(kit, "omni-dpo", invariance=0.1, sensitivity=0.05)
    session = Session.open(config)
    examples = preference_examples(read_preferences(kit.prefs), session.store, session.builder, config)
    for example in examples:
        specs = {*example.scores.values(), *example.texts.values(), *example.corrupted.values()}
        assert len({spec_key(spec, session.input_names, session.builder) for spec in specs}) == len(specs)


def test_rivals_score_only_what_the_papers_run_has_not(tmp_path, scored):  # noqa: F811
    kit = make_kit(tmp_path)
    cache_logprobs(config_of(kit, "paper"))
    scored.clear()
    for name in ("avem-dpo-split", "mod-dpo", "mod-dpo-plus", "rpo", "simpo", "ipo", "cdpo", "robust-dpo"):
        cache_logprobs(config_of(kit, name))
        assert not scored, name
    cache_logprobs(config_of(kit, "omni-dpo"))
    assert 0 < sum(scored) <= 2 * 22
    scored.clear()
    cache_logprobs(config_of(kit, "mdpo"))
    assert sum(scored) <= 22


def steps_of(**rewards: float) -> list[dict]:
    return [dict.fromkeys(rewards, 0.0)] * 8 + [rewards] * 2


def test_rewards_are_means_of_the_last_steps():
    steps = [{"reward_w": float(number), "reward_l": -float(number)} for number in range(1000)]
    assert last_rewards(steps) == {"reward_w": 974.5, "reward_l": -974.5}
    assert last_rewards([{"loss": 1.0}]) == {}


def test_a_reward_on_the_wrong_side_is_warned_of():
    assert reward_warnings(steps_of(reward_w=15.7, reward_vr=-48.9, reward_er=-1.0, reward_l=-25.0)) == []
    (easy,) = reward_warnings(steps_of(reward_w=15.7, reward_vr=-48.9, reward_er=8.3, reward_l=-20.3))
    assert easy.startswith("The reward of the emotion-relevant rejected answer ends at 8.30, above 0")
    assert "rejected=each" in easy
    (fallen,) = reward_warnings(steps_of(reward_w=-0.4, reward_l=-3.0), "random")
    assert fallen.startswith("The reward of the chosen answer ends at -0.40, below 0")
    assert "set nll=1 or anchor=1" in fallen
    assert "raise nll or anchor" in reward_warnings(steps_of(reward_w=-0.4, reward_l=-3.0), "random", held=True)[0]
    (single,) = reward_warnings(steps_of(reward_w=1.0, reward_l=0.2), "random")
    assert single.startswith("The reward of what is rejected ends at 0.20, above 0")
    assert reward_warnings([{"loss": 1.0}]) == []


def test_a_run_says_where_its_rewards_ended(kit, tmp_path, caplog, monkeypatch):
    from avem.train.run import session

    monkeypatch.setattr(session, "reward_warnings", lambda steps, rejected, held: [f"{len(steps)} {rejected} {held}"])
    train_preferences(config_of(kit, "rpo", out=tmp_path / "run", epochs=1, max_steps=2))
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert f"{tmp_path / 'run'}: 2 random True" in warned, "its preset has nll=1"
