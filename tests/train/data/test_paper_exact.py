"""The preset that takes the paper's words literally: any clip of another emotion, drawn alone, and 64 rows a step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.cache import FeatureStore, mine_negatives
from avem.train import PreferenceConfig, load_model
from avem.train.data.examples import preference_examples
from avem.train.data.negatives import choose_negatives, draw_negatives
from avem.train.packing.specs import SequenceBuilder
from avem.train.preference import PreferenceTraining
from avem.train.run.training import preview_training
from avem.train.settings.presets import PREFERENCE_PRESETS
from avem.train.stages import stage_config
from tests.train.training_kit import EMOTIONS, Kit, make_kit, preference_rows

TABLE = np.array(
    [[1, 2, 3, 4], [0, 2, 3, -1], [0, 1, -1, -1], [0, 4, -1, -1], [3, 2, 1, 0], [-1, -1, -1, -1]], np.int32
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("exact"))


def test_a_step_has_the_papers_64_rows():
    config = stage_config("preference", {}, preset_name="paper-exact")
    assert isinstance(config, PreferenceConfig)
    assert config.rows_per_step == 2 * 4 * 8
    assert (config.negatives, config.match_negatives, config.rejected_input) == ("random-emotion", False, "prompt")
    weights = ("beta", "beta_vr", "beta_er", "beta_irr", "gamma_tpd", "lambda_av", "learning_rate", "epochs")
    paper = stage_config("preference", {}, preset_name="paper")
    assert [getattr(config, name) for name in weights] == [getattr(paper, name) for name in weights]


def test_a_run_from_before_the_setting_is_still_the_same_run():
    given = {"model": "model"}
    assert "match_negatives" not in stage_config("preference", given).identity()
    assert stage_config("preference", given, preset_name="paper-exact").identity()["match_negatives"] is False


@given(st.integers(0, 10_000), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_a_drawn_negative_depends_on_its_own_row_alone(seed, clips):
    names = [f"row {number}" for number in range(len(clips))]
    tables = {"audio": TABLE}
    drawn = draw_negatives(names, clips, ["audio"] * len(clips), tables, seed)
    for clip, partner in zip(clips, drawn, strict=True):
        assert partner in TABLE[clip]
        assert (partner < 0) == (clip == 5)
    last = draw_negatives(names[-1:], clips[-1:], ["audio"], tables, seed)
    assert drawn[-1:] == last


def test_every_negative_of_a_clip_is_drawn_as_often():
    """4,000 rows over four negatives: 1,000 each, with a standard deviation of 27."""
    names = [f"row {number}" for number in range(4000)]
    counts = Counter(draw_negatives(names, [0] * 4000, ["audio"] * 4000, {"audio": TABLE}, 0))
    assert counts.keys() == {1, 2, 3, 4}
    assert max(abs(count - 1000) for count in counts.values()) < 5 * 27.4
    assert len(set(choose_negatives([0] * 40, ["audio"] * 40, {"audio": TABLE}, 0))) == 1


def test_the_preset_trains_on_clips_of_other_emotions(kit):
    store = FeatureStore.open(kit.store)
    mine_negatives(store, "random-emotion", k=4, seed=0)
    settings = kit.preference_settings(kit.store.parent / "run", **PREFERENCE_PRESETS["paper-exact"])
    config = PreferenceConfig(**{**settings, "epochs": 1})
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    examples = preference_examples(preference_rows(), store, SequenceBuilder(model, store, "both"), config)
    assert all(EMOTIONS[example.partner % 3] != EMOTIONS[example.clip % 3] for example in examples)
    by_clip = {}
    for example in examples:
        by_clip.setdefault(example.clip, set()).add(example.partner)
    assert any(len(partners) > 1 for partners in by_clip.values())  # each row draws for itself
    summary = preview_training(PreferenceTraining(config))
    assert (summary.rows, summary.steps) == (len(examples), 1)
