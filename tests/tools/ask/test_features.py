"""Asking a model that reads features: every number is the one that scoring from a store gives."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest
import torch

from avem.errors import FingerprintError, MediaError, PromptError, SettingError, UnknownClipError
from avem.evaluate.predict.feature_model import FeaturePredictor, FeaturePrompt
from avem.evaluate.recognition.labels import PROMPTS, SPELLINGS
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.text.names import shown_path
from avem.tools.ask.features import FeatureSession
from avem.tools.ask.inputs import AskedClip
from avem.tools.ask.results import LABELS, Condition
from avem.tools.ask.session import ask_all, open_session
from avem.train import load_model, score_answers
from tests.extract.long_kit import write_long
from tests.tools.ask.conftest import WIDTH, extract_one_by_one
from tests.train.families.emotion_llama_kit import import_tiny
from tests.train.families.qwen_omni.qwen_omni_kit import save_checkpoint, thinker

QUESTION = "What does the person feel?"


def clip(path):
    return AskedClip(path.name, path)


@pytest.fixture(scope="module")
def model(world):
    return load_model(world.model, dtype=torch.float64)


@pytest.fixture(scope="module")
def session(world, model):
    return FeatureSession(world.options(), model)


@pytest.fixture(scope="module")
def new_store(world, tmp_path_factory):
    """The new clips in a store of their own."""
    root = tmp_path_factory.mktemp("again") / "data"
    (root / "happy").mkdir(parents=True)
    for path in world.new.iterdir():
        (root / "happy" / path.name).write_bytes(path.read_bytes())
    return extract_one_by_one(root, root.parent / "cache", world.encoders)


def scored(model, store, question, answer, video, audio):
    """What the model's own scoring gives for rows of a store."""
    sequence = model.sequence(
        question,
        answer,
        None if video is None else store.video([video])[0],
        None if audio is None else store.audio([audio])[0],
    )
    with torch.inference_mode():
        return float(model.response_logprobs([sequence])[0])


def test_the_answer_is_scored_as_from_a_store(world, model, session, new_store):
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION], against=clip(world.new / "b.mp4"))
    (part,) = found.answers[0].parts
    readings = part.readings
    a, b = (int(new_store.rows([f"data/happy/{name}"])[0]) for name in "ab")
    with torch.inference_mode():
        (expected,) = score_answers(model, new_store, [("data/happy/a", QUESTION, part.answer)]).tolist()
    assert readings[Condition.FULL].logprob == pytest.approx(expected, abs=1e-9)
    rows = {
        Condition.FULL: (a, a),
        Condition.NO_SOUND: (a, None),
        Condition.NO_PICTURE: (None, a),
        Condition.TEXT: (None, None),
        Condition.OTHER_SOUND: (a, b),
        Condition.OTHER_PICTURE: (b, a),
    }
    assert readings.keys() == rows.keys()
    for condition, (video, audio) in rows.items():
        expected = scored(model, new_store, QUESTION, part.answer, video, audio)
        assert readings[condition].logprob == pytest.approx(expected, abs=1e-9), condition
    changes = [found.answers[0].change(each) for each in rows if each is not Condition.FULL]
    assert len({round(change, 6) for change in changes}) == len(changes), "the conditions differ"


def test_the_answer_is_what_the_model_generates(world, model, session, new_store):
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION])
    row = [int(new_store.rows(["data/happy/a"])[0])]
    prompts = [
        model.prompt(QUESTION, new_store.video(row)[0], new_store.audio(row)[0]),
        model.prompt(QUESTION, new_store.video(row)[0], None),
    ]
    with torch.inference_mode():
        full, silent = (model.generate([prompt], max_new_tokens=6)[0] for prompt in prompts)
    (part,) = found.answers[0].parts
    assert (part.answer, part.readings[Condition.NO_SOUND].answer) == (full, silent)


def test_the_bars_are_the_likelihoods_of_the_emotion_bench(world, model, session, new_store):
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION]).emotions
    predictor = FeaturePredictor(model, new_store, "cloze", 6)
    row = int(new_store.rows(["data/happy/a"])[0])
    words = [word for label in LABELS for word in SPELLINGS[label]]
    prompt = FeaturePrompt(PROMPTS["audiovisual"], *predictor.media(row))
    (values,) = predictor.option_logprobs([prompt], [words])
    by_word = dict(zip(words, values, strict=True))
    expected = [math.log(sum(math.exp(by_word[word]) for word in SPELLINGS[label])) for label in LABELS]
    assert found.logprobs[Condition.FULL][0] == pytest.approx(expected, abs=1e-9)
    weights = [math.exp(value) for value in expected]
    shares = [weight / sum(weights) for weight in weights]
    assert found.shares(Condition.FULL) == pytest.approx(shares, abs=1e-9)


def test_a_clip_of_the_store_is_read_from_it(world, model, monkeypatch):
    """By its id, and by its file's content wherever the file lies; nothing is encoded."""
    fresh = FeatureSession(world.options(), model).ask(clip(world.held / "0.mp4"), [QUESTION])
    held = FeatureSession(world.options(cache=world.cache), model)
    monkeypatch.setattr(FeatureSession, "_encoded", None)
    by_file = held.ask(clip(world.held / "0.mp4"), [QUESTION])
    by_id = held.ask(AskedClip("held/happy/0"), [QUESTION])
    assert by_file.source == by_id.source == f"from {world.cache}"
    assert by_id.path.samefile(world.held / "0.mp4")
    for found in (by_file, by_id):
        assert found.answers == fresh.answers
        assert found.emotions == fresh.emotions
    with pytest.raises(UnknownClipError, match=r"nothing.*is not among the 2 clips"):
        held.ask(AskedClip("nothing"), [QUESTION])


def test_a_copied_clip_is_found_by_its_content_and_the_name_there_is_said(world, model, tmp_path, monkeypatch):
    """In the store that was named, and else in one that the model is known by."""
    copied = shutil.copytree(world.held, tmp_path / "copy") / "0.mp4"
    cache = shutil.copytree(world.cache, tmp_path / "cache")
    monkeypatch.setattr(FeatureSession, "_encoded", None)
    found = FeatureSession(world.options(cache=cache), model).ask(clip(copied), [QUESTION])
    assert found.source == f"from {cache}, where the same content is held/happy/0"


@pytest.mark.parametrize("others", ["fit", "do not"])
def test_a_store_that_does_not_hold_the_clip_gives_way_to_one_that_does(
    world, model, new_store, tmp_path, monkeypatch, others
):
    """Also where its features are of encoders that the model does not know."""
    named = new_store.location.local
    if others == "do not":
        size = {"image_size": 32, "patch_size": 16, "hidden": WIDTH, "layers": 2, "heads": 2, "frames": 4}
        video = make_random_languagebind(tmp_path / "video", **size, projection_dim=16, seed=7)
        named = tmp_path / "other"
        extract_one_by_one(world.new, named, {**world.encoders, "video_encoder": str(video)})
    copied = shutil.copytree(world.held, tmp_path / "copy") / "0.mp4"
    direct = FeatureSession(world.options(cache=world.cache), model).ask(clip(copied), [QUESTION])
    monkeypatch.setattr(FeatureSession, "_encoded", None)
    options = world.options(cache=named, stores=(world.cache,))
    session = FeatureSession(options, model)
    found = session.ask(clip(copied), [QUESTION], against=clip(world.held / "1.mp4"))
    assert found.source == (
        f"from {shown_path(world.cache)}, where the same content is held/happy/0; {named} does not hold it"
    )
    assert found.known.label == "happiness"
    assert found.answers[0].parts[0].answer == direct.answers[0].parts[0].answer
    full = [each.emotions.logprobs[Condition.FULL] for each in (found, direct)]
    assert full[0] == full[1]
    assert "rows" in session.content(clip(copied)), "kept answers depend on the features that were read"
    with pytest.raises(UnknownClipError, match="held/happy/0"):
        session.ask(AskedClip("held/happy/0"), [QUESTION])  # ids are of the store that was named


def test_a_clip_outside_the_store_is_encoded_beside_it(world, model):
    session = FeatureSession(world.options(cache=world.cache), model)
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION], against=AskedClip("held/happy/1"))
    assert found.source == f"encoded now; {world.cache} does not hold it"
    alone = FeatureSession(world.options(), model).ask(
        clip(world.new / "a.mp4"), [QUESTION], clip(world.held / "1.mp4")
    )
    assert found.answers == alone.answers


def test_a_clip_without_sound_is_asked_without_it(world, session):
    found = session.ask(clip(world.new / "mute.mp4"), [QUESTION], against=clip(world.new / "a.mp4"))
    assert set(found.answers[0].conditions) == {Condition.FULL, Condition.TEXT, Condition.OTHER_PICTURE}
    assert found.notes[0].startswith("No audio: ")
    assert not found.notes[0].endswith("..")
    assert "The clip has no sound that the model can read, so only the picture was shown." in found.notes
    both = session.ask(clip(world.new / "a.mp4"), [QUESTION])
    assert not [note for note in both.notes if note.startswith("The clip has no")]


def test_other_encoders_than_the_models_are_refused(world, model, tmp_path):
    other = make_random_whisper(tmp_path / "other", width=32, layers=1, heads=2, positions=50, seed=5)
    session = FeatureSession(world.options(audio_encoder=str(other)), model)
    with pytest.raises(FingerprintError, match=r"trained on.*--audio-encoder"):
        session.ask(clip(world.new / "a.mp4"), [QUESTION])
    with pytest.raises(SettingError, match="--fps"):
        FeatureSession(world.options(fps=2.0), model).ask(clip(world.new / "a.mp4"), [QUESTION])


def test_a_long_clip_is_asked_window_by_window(world, model, tmp_path):
    path = write_long(tmp_path / "long.mov", 33)
    found = FeatureSession(world.options(), model).ask(clip(path), [QUESTION])
    assert found.spans == ((0.0, 30.0), (30.0, 33.0))
    first, second = found.answers[0].parts
    changes = [
        part.readings[Condition.NO_SOUND].logprob - part.readings[Condition.FULL].logprob for part in (first, second)
    ]
    assert found.answers[0].change(Condition.NO_SOUND) == pytest.approx(sum(changes) / 2)
    parts = found.emotions.logprobs[Condition.FULL]
    means = [(one + two) / 2 for one, two in zip(*parts, strict=True)]
    weights = [math.exp(mean) for mean in means]
    assert found.emotions.shares(Condition.FULL) == pytest.approx([weight / sum(weights) for weight in weights])
    whole = FeatureSession(world.options(windows=False), model).ask(clip(path), [QUESTION])
    assert whole.spans == (None,)


def test_one_bad_clip_stops_no_other(world, session, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    clips = [clip(world.new / "a.mp4"), clip(broken), clip(world.new / "b.mp4")]
    first, second, third = ask_all(session, clips, [QUESTION])
    assert "broken.mp4 can't be decoded" in second.failed
    assert not first.failed
    assert not third.failed
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        list(ask_all(session, [clip(broken)], [QUESTION]))
    with pytest.raises(SettingError, match=r"The other clip, broken\.mp4, can't be used"):
        list(ask_all(session, clips, [QUESTION], clip(broken)))
    with pytest.raises(PromptError, match="special token"):
        list(ask_all(session, [clip(world.new / "a.mp4")], ["What is </s>?"]))


def test_a_qwen_omni_model_brings_its_own_encoders(world, tmp_path):
    folder = save_checkpoint(thinker("qwen2_5_omni", dtype=torch.float32), tmp_path / "omni")
    session = open_session(world.options(model=str(folder), max_pixels=16 * 28**2, max_new_tokens=3))
    assert session.about.kind == "Qwen2.5-Omni"
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION])
    assert set(found.emotions.logprobs) == {
        Condition.FULL,
        Condition.NO_SOUND,
        Condition.NO_PICTURE,
        Condition.TEXT,
    }
    readings = found.answers[0].parts[0].readings
    if readings[Condition.FULL].answer:
        assert all(reading.logprob is not None for reading in readings.values())


def test_emotion_llama_says_that_it_knows_whole_clips_only(world, tmp_path):
    folder = import_tiny(tmp_path)
    session = open_session(world.options(model=str(folder), fill_missing="zeros", max_new_tokens=3))
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION])
    assert any("never trained" in note for note in found.notes)
    assert Condition.NO_SOUND in found.emotions.logprobs
    with pytest.raises(FingerprintError, match="face/mae"):
        open_session(replace(session.options, fill_missing=None)).ask(clip(world.new / "a.mp4"), [QUESTION])
