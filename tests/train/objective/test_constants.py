"""Reference and text-prior scores: the right numbers, computed once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import DataError, DivergedError
from avem.train import AudiovisualLM, load_model
from avem.train.data.examples import preference_examples
from avem.train.data.rows import read_preferences
from avem.train.objective.constants import score_constants
from avem.train.preference import cache_logprobs, train_preferences
from avem.train.run.session import Session
from avem.train.settings.config import PreferenceConfig
from tests.train.training_kit import Kit, make_kit


@pytest.fixture
def kit(tmp_path) -> Kit:
    return make_kit(tmp_path)


@pytest.fixture
def scored(monkeypatch) -> list[int]:
    """How many sequences each call scored."""
    counts: list[int] = []
    real = AudiovisualLM.response_logprobs

    def counting(self, sequences, share_prefixes=True):
        counts.append(len(sequences))
        return real(self, sequences, share_prefixes)

    monkeypatch.setattr(AudiovisualLM, "response_logprobs", counting)
    return counts


def config_of(kit: Kit, **changes) -> PreferenceConfig:
    return PreferenceConfig(**kit.preference_settings(Path("unused"), **changes))


def test_constants_are_the_scores_of_the_model_with_and_without_media(kit):
    config = config_of(kit)
    session = Session.open(config)
    examples = preference_examples(read_preferences(kit.prefs), session.store, session.builder, config)
    features = session.features(spec for example in examples for spec in example.specs)
    constants = score_constants(session, examples, features)
    model, store = load_model(kit.model), FeatureStore.open(kit.store)
    for example, row in list(zip(examples, read_preferences(kit.prefs), strict=True))[:5]:
        video, audio = store.video([example.clip])[0], store.audio([example.clip])[0]
        assert example.partner is not None
        other_video, other_audio = store.video([example.partner])[0], store.audio([example.partner])[0]
        rejected = {
            "visual": (other_video, audio),
            "audio": (video, other_audio),
            "audiovisual": (other_video, other_audio),
        }[row.modality]
        answers = {"w": row.chosen, "vr": row.rejected_video_relevant, "er": row.rejected_emotion_relevant}
        sequences = [model.sequence(row.question, answer, video, audio) for answer in answers.values()]
        sequences.append(model.sequence(row.question, row.chosen, *rejected))
        sequences += [model.sequence(row.question, answer) for answer in answers.values()]
        with torch.no_grad():
            expected = model.response_logprobs(sequences, share_prefixes=False)
        found = [constants[example.scores[name]] for name in (*answers, "w_given_l")]
        found += [constants[example.texts[name]] for name in answers]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_second_run_an_ablation_and_another_preset_score_nothing_again(kit, scored):
    assert cache_logprobs(config_of(kit)) == sum(scored) == 22 * 7 - duplicates(kit)
    scored.clear()
    cache_logprobs(config_of(kit))
    cache_logprobs(config_of(kit, lambda_av=0.0, gamma_tpd=0.0))
    cache_logprobs(config_of(kit, rejected="random"))
    assert not scored


def test_rows_that_no_step_takes_are_not_scored(kit, scored, tmp_path):
    short = {"max_steps": 1, "batch_size": 4, "accumulation": 1, "reliance_rows": 0}
    train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "short", **short)))
    first = json.loads((tmp_path / "short" / "metrics.jsonl").read_text())
    scored.clear()
    every = cache_logprobs(config_of(kit))
    assert every - first["rows"] * 7 <= sum(scored) < every, "those of the other rows are missing"
    train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "again", **short)))
    again = json.loads((tmp_path / "again" / "metrics.jsonl").read_text())
    assert (first["loss"], first["grad_norm"]) == (again["loss"], again["grad_norm"]), "nothing else depends on them"


def duplicates(kit: Kit) -> int:
    """Text-only scores that rows share, since they ask and answer the same."""
    texts = [
        (row.question, answer)
        for row in read_preferences(kit.prefs)
        for answer in (row.chosen, row.rejected_video_relevant, row.rejected_emotion_relevant)
    ]
    return len(texts) - len(set(texts))


def test_only_what_changed_is_scored_again(kit, scored):
    cache_logprobs(config_of(kit))
    scored.clear()
    cache_logprobs(config_of(kit, rejected_input="both"))
    assert 0 < sum(scored) <= 22
    scored.clear()
    rows = [dataclasses.replace(row, chosen="a new cue") if row.row_id == "0-visual" else row for row in rows_of(kit)]
    write_rows(kit, rows)
    cache_logprobs(config_of(kit))
    assert sum(scored) == 3  # reference on the clip and on the rejected input, and the text prior


def test_another_model_scores_everything_again(kit, scored, tmp_path):
    cache_logprobs(config_of(kit))
    model = load_model(kit.model)
    with torch.no_grad():
        next(model.language_model.parameters()).add_(0.01)
    model.save(tmp_path / "other")
    before = sum(scored)
    cache_logprobs(config_of(kit, model=str(tmp_path / "other")))
    assert sum(scored) == 2 * before


def test_a_score_that_is_not_finite_names_its_row(kit, tmp_path):
    model = load_model(kit.model)
    with torch.no_grad():
        model.video_projector.network.weight[0, 0] = float("nan")
    model.save(tmp_path / "broken")
    with pytest.raises(DivergedError, match="score of row 0-visual is not finite"):
        cache_logprobs(config_of(kit, model=str(tmp_path / "broken")))


def test_an_irrelevant_answer_that_is_weighed_has_to_be_there(kit):
    rows = [dataclasses.replace(row, rejected_irrelevant=None) for row in rows_of(kit)]
    write_rows(kit, rows)
    with pytest.raises(DataError, match=r"0-visual has no rejected_irrelevant; add one, or set beta_irr=0"):
        cache_logprobs(config_of(kit, beta_irr=0.3))


def rows_of(kit: Kit):
    return read_preferences(kit.prefs)


def write_rows(kit: Kit, rows) -> None:
    from avem.files import write_json_lines

    write_json_lines(kit.prefs, [row.to_json() for row in rows])
