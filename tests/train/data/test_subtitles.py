"""Subtitles in prompts: what is shown where, and that every score, run and rejected input depends on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avem.cache import FeatureStore, ScoreCache, StoreWriter
from avem.cache.manifest.subtitles import Subtitle
from avem.errors import DataError, PromptError, SettingError
from avem.records import Modality
from avem.text.subtitles import with_subtitle
from avem.train import load_model, score_answers
from avem.train.data.examples import preference_examples
from avem.train.data.noise import noise_row
from avem.train.data.rows import read_preferences
from avem.train.model.media import SIDES
from avem.train.objective.constants import score_fingerprint, spec_key
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.preference import cache_logprobs, train_preferences
from avem.train.run.checks import swapped_specs
from avem.train.run.session import Session
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.families.emotion_llama_kit import import_tiny
from tests.train.families.emotion_llama_kit import make_store as emotion_store
from tests.train.model_kit import tiny_model
from tests.train.training_kit import CLIPS, Kit, make_kit

SAID = {0: "Leave me!", 1: "How lovely.", 2: "", 4: "Stop it.", 5: "Ah, the sea.", 6: "No!"}
"""By the clip's number; clip 2 is silent, and of the others nothing is known."""


def say(store: Path | str, said: dict[int, str]) -> None:
    StoreWriter.open(store).enter_subtitles({f"toy/{n:03d}": Subtitle(text, "srt") for n, text in said.items()})


@pytest.fixture
def kit(tmp_path) -> Kit:
    made = make_kit(tmp_path)
    say(made.store, SAID)
    return made


def config(kit, out="run", **changes) -> PreferenceConfig:
    settings = kit.preference_settings(kit.store.parent / out, max_steps=2, reliance_rows=2, **changes)
    return PreferenceConfig(**settings)


def examples(kit, **changes):
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    settings = config(kit, subtitles=True, **changes)
    builder = SequenceBuilder(model, store, subtitles=True)
    return preference_examples(read_preferences(kit.prefs), store, builder, settings), builder


def test_a_prompt_holds_the_subtitle_before_the_question_and_nothing_for_a_silent_clip(kit):
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    builder = SequenceBuilder(model, store, subtitles=True)
    assert [builder.subtitle(row) for row in range(CLIPS)] == [SAID.get(row) or None for row in range(CLIPS)]
    plain, said = (ScoreSpec("Why?", "So.", 0, 0, subtitle) for subtitle in (None, SAID[0]))
    texts = [model.tokenizer.decode([token for token in builder.ids(spec)[0] if token >= 0]) for spec in (plain, said)]
    assert texts[1] == texts[0].replace("Why?", with_subtitle("Why?", SAID[0]))
    assert "The person in the video says: Leave me!\nWhy?" in texts[1]


def test_keys_differ_with_subtitles_on_and_off_and_with_their_text(kit):
    session = Session.open(config(kit))
    names, builder = session.input_names, session.builder
    keys = [spec_key(ScoreSpec("Why?", "So.", 0, 0, said), names, builder) for said in (None, "Leave me!", "Leave!")]
    assert len(set(keys)) == 3
    off, on = (list(make_keys(kit, subtitles)) for subtitles in (False, True))
    assert len(set(off) & set(on)) == len(off) - sum(bool(SAID.get(row)) for row in range(CLIPS))
    say(kit.store, {0: "Leave me alone!"})
    changed = list(make_keys(kit, True))
    assert [one == other for one, other in zip(on, changed, strict=True)] == [False] + [True] * (CLIPS - 1)


def make_keys(kit, subtitles):
    session = Session.open(config(kit, subtitles=subtitles))
    for row in range(CLIPS - 1):  # the last clip has no sound
        spec = ScoreSpec("Why?", "So.", row, row, session.builder.subtitle(row))
        yield spec_key(spec, session.input_names, session.builder)
    yield "a clip without sound"


def test_the_subtitle_goes_with_the_sound_and_the_text_prior_has_none(kit):
    made, builder = examples(kit)
    rows = read_preferences(kit.prefs)
    for row, example in zip(rows, made, strict=True):
        own, other = builder.subtitle(example.clip), builder.subtitle(example.partner)
        assert all(example.scores[name].subtitle == own for name in ("w", "vr", "er"))
        assert all(spec.subtitle is None for spec in example.texts.values())
        assert example.scores["w_given_l"].subtitle == (own if row.modality is Modality.VISUAL else other)
    both, _ = examples(kit, rejected_input="both")
    assert all(one.scores["w_given_l"].subtitle == builder.subtitle(one.partner) for one in both)
    noisy, _ = examples(kit, negatives="random-tensor")
    for row, example in zip(rows, noisy, strict=True):
        assert example.partner == noise_row(example.clip)
        seen = row.modality is Modality.VISUAL
        assert example.scores["w_given_l"].subtitle == (builder.subtitle(example.clip) if seen else None)
    store = FeatureStore.open(kit.store)
    for own, sound, picture in swapped_specs(made, store, 4, 0, builder.subtitle):
        assert sound.subtitle == builder.subtitle(sound.audio)
        assert picture.subtitle == own.subtitle


def by_hand(model, builder, asked):
    """Scores of each answer by itself, from the store's features."""
    from avem.train.data.features import ClipFeatures

    scores = []
    for row, question, answer in asked:
        spec = ScoreSpec(question, answer, *(row if builder.available(side)[row] else None for side in SIDES))
        media = ClipFeatures(builder.streams, [spec], model.device, 10).media([spec])
        video = None if spec.video is None else media.video[row]
        audio = None if spec.audio is None else media.audio[row]
        said = {"subtitle": SAID[row]} if SAID.get(row) else {}
        sequence = model.sequence(question, answer, video, audio, **said)
        scores.append(model.response_logprobs([sequence], share_prefixes=False))
    return torch.cat(scores)


ASKED = [(row, question, answer) for row in (0, 0, 1, 2, 3, 5) for question in ("Why?", "How so?") for answer in "xy"]


@pytest.mark.parametrize("style", ["vicuna_v1", "llava_v1", "chat", "emotion_llama"])
def test_packed_scores_equal_one_sequence_at_a_time(kit, tmp_path, style):
    if style == "emotion_llama":
        model = load_model(import_tiny(tmp_path / "tiny"), dtype=torch.float64)
        store = emotion_store(tmp_path / "emotions")
        say(store.location.url, SAID)
        store.refresh()
    else:
        sizes = {"video_projector": "linear", "audio_projector": "stack-mlp"}
        model, store = tiny_model(prompt_format=style, **sizes).double(), FeatureStore.open(kit.store)
    asked = [(f"toy/{row:03d}", question, answer) for row, question, answer in ASKED]
    with torch.no_grad():
        expected = by_hand(model, SequenceBuilder(model, store), ASKED)
        for share in (True, False):
            scores = score_answers(model, store, asked, share, subtitles=True)
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)
        plain = score_answers(model, store, asked)
    differ = (plain - expected).abs() > 1e-6
    assert differ.tolist() == [bool(SAID.get(row)) for row, *_ in ASKED]


def test_a_run_with_subtitles_is_another_run_and_resumes_only_under_the_same_ones(kit):
    run = train_preferences(config(kit, subtitles=True))
    assert load_model(run).saw_subtitles
    with pytest.raises(SettingError, match="other settings"):
        train_preferences(config(kit))
    (run / "final").rename(run.parent / "set aside")
    train_preferences(config(kit, subtitles=True))
    (run / "final").rename(run.parent / "again")
    say(kit.store, {4: "Go on."})
    with pytest.raises(DataError, match=r"The subtitles that the run in .* began with changed"):
        train_preferences(config(kit, subtitles=True))
    assert train_preferences(config(kit, "plain")).is_dir()


def test_a_run_without_subtitles_never_sees_that_they_change(kit):
    run = train_preferences(config(kit))
    (run / "final").rename(run.parent / "set aside")
    say(kit.store, {4: "Go on."})
    assert (train_preferences(config(kit)) / "final").is_dir()
    assert "subtitles" not in config(kit).identity()


def test_constants_of_the_two_settings_lie_side_by_side(kit):
    counts = []
    for subtitles in (False, True, False, True):
        cache_logprobs(config(kit, subtitles=subtitles))
        session = Session.open(config(kit))
        precision = f"float32 {session.model.dtype}"
        cache = ScoreCache(kit.store, score_fingerprint(session.fingerprint, session.builder.streams, precision))
        counts.append(len(cache))
    assert counts[0] < counts[1] == counts[2] == counts[3]


def test_supervised_training_takes_them_too(kit, caplog):
    settings = kit.supervised_settings(kit.store.parent / "sft", max_steps=1, subtitles=True)
    with caplog.at_level("INFO"):
        train_supervised(SupervisedConfig(**settings))
    assert "3 of 8 clips have no subtitle; their prompts leave the line out." in caplog.text


def test_what_can_not_be_shown_is_one_sentence(kit, tmp_path):
    say(kit.store, {1: "How </s> lovely."})
    with pytest.raises(PromptError, match=r"^The subtitle of the clip toy/001 holds '</s>'"):
        train_preferences(config(kit, subtitles=True))
    say(kit.store, {1: "so " * 3000})
    with pytest.raises(PromptError, match=r"^Row \d-\w+: The sequence fills \d+ positions"):
        train_preferences(config(kit, subtitles=True))
    say(kit.store, dict.fromkeys(SAID, ""))
    with pytest.raises(SettingError, match=r"No clip of .* has a subtitle; put \.srt files"):
        train_preferences(config(kit, subtitles=True))
    from tests.train.families.toy_family import toy

    with pytest.raises(SettingError, match="prompts have no room for subtitles"):
        SequenceBuilder(toy(), FeatureStore.open(kit.store), subtitles=True)
