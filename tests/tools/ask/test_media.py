"""Asking models that are shown media files: by an adapter, and behind an endpoint."""

from __future__ import annotations

import pytest
import torch

from avem.errors import DataError, EndpointError, MissingFileError, SettingError
from avem.evaluate.predict.adapters import load_adapter
from avem.evaluate.predict.loading import EndpointOptions
from avem.evaluate.predict.media_model import ClipMedia
from avem.evaluate.recognition.labels import PROMPTS, SPELLINGS
from avem.extract import read_waveform
from avem.tools.ask.inputs import AskedClip
from avem.tools.ask.media import NO_LIKELIHOODS, MediaSession
from avem.tools.ask.results import LABELS, Condition
from avem.tools.ask.session import ask_all, open_session
from avem.tools.ask.text import clip_lines
from tests.endpoint_kit import stand_in
from tests.evaluate.adapter_kit import save_small
from tests.extract.long_kit import write_long

QUESTION = "What does the person feel?"


def clip(path):
    return AskedClip(path.name, path)


def endpoint(served, **changes):
    return EndpointOptions(url=served.endpoint, retries=0, timeout_s=20, frames=2, parallel=4, **changes)


def kinds(body):
    return [part["type"] for part in body["messages"][-1]["content"]]


def reply(body):
    """Anger as long as there is sound; a description names what is there."""
    parts, text = kinds(body), body["messages"][-1]["content"][-1]["text"]
    if text == PROMPTS["audiovisual"]:
        return "Angry." if "input_audio" in parts else "No idea."
    seen = "a face" if "image_url" in parts else "nothing"
    return f"I see {seen} and hear {'a voice' if 'input_audio' in parts else 'nothing'}."


@pytest.fixture(scope="module")
def adapter_folder(tmp_path_factory):
    return save_small("qwen2_audio", tmp_path_factory.mktemp("adapter") / "qwen2-audio")


def test_an_adapter_scores_answer_and_emotions_itself(world, adapter_folder):
    session = open_session(world.options(model=str(adapter_folder)))
    assert session.about.kind == "shown media files by its adapter"
    found = session.ask(clip(world.new / "a.mp4"), [QUESTION], against=clip(world.new / "b.mp4"))
    (part,) = found.answers[0].parts
    assert set(part.readings) == {Condition.FULL, Condition.TEXT, Condition.OTHER_SOUND}, "it takes sound alone"
    adapter = load_adapter(str(adapter_folder), "cpu", torch.float32)
    shown = {
        Condition.FULL: ClipMedia(None, read_waveform(world.new / "a.mp4")),
        Condition.TEXT: ClipMedia(),
        Condition.OTHER_SOUND: ClipMedia(None, read_waveform(world.new / "b.mp4")),
    }
    for condition, media in shown.items():
        inputs = adapter.encode(QUESTION, media)
        assert part.readings[condition].answer == adapter.reply(inputs, 6)
        (expected,) = adapter.option_logprobs(inputs, [part.answer])
        assert part.readings[condition].logprob == pytest.approx(expected, abs=1e-4)
    words = [word for label in LABELS for word in SPELLINGS[label]]
    values = adapter.option_logprobs(adapter.encode(PROMPTS["audiovisual"], shown[Condition.FULL]), words)
    (bars,) = found.emotions.logprobs[Condition.FULL]
    neutral = LABELS.index("neutral")
    assert bars[neutral] == pytest.approx(values[words.index("neutral")], abs=1e-4)


def test_an_endpoint_is_asked_again_without_sound_and_picture(world):
    with stand_in(reply) as served:
        session = open_session(world.options(model="judge", endpoint=endpoint(served)))
        found = session.ask(clip(world.new / "a.mp4"), [QUESTION], against=clip(world.new / "b.mp4"))
    assert session.about.missing == (NO_LIKELIHOODS,)
    (part,) = found.answers[0].parts
    assert {each: reading.answer for each, reading in part.readings.items()} == {
        Condition.FULL: "I see a face and hear a voice.",
        Condition.NO_SOUND: "I see a face and hear nothing.",
        Condition.NO_PICTURE: "I see nothing and hear a voice.",
        Condition.TEXT: "I see nothing and hear nothing.",
        Condition.OTHER_SOUND: "I see a face and hear a voice.",
        Condition.OTHER_PICTURE: "I see a face and hear a voice.",
    }
    assert found.emotions.named[Condition.FULL] == ("anger",)
    assert found.emotions.named[Condition.NO_SOUND] == ("",)
    assert found.emotions.shares(Condition.FULL) is None
    assert found.answers[0].change(Condition.NO_SOUND) is None
    text = "\n".join(clip_lines(found))
    assert "nats" not in text
    assert "names none of the seven" in text
    sounds = {
        body["messages"][-1]["content"][-2]["input_audio"]["data"]
        for body in served.asked
        if kinds(body)[-2:-1] == ["input_audio"]
    }
    assert len(sounds) == 2, "the clip's own sound, and the other clip's"


def test_an_endpoint_that_takes_no_sound_gets_none(world):
    with stand_in(reply) as served:
        session = open_session(world.options(model="judge", endpoint=endpoint(served, sound=False)))
        found = session.ask(clip(world.new / "a.mp4"), [QUESTION])
        assert set(found.answers[0].conditions) == {Condition.FULL, Condition.TEXT}
    assert not any("input_audio" in kinds(body) for body in served.asked)


def test_a_long_clip_is_sent_window_by_window(world, tmp_path):
    path = write_long(tmp_path / "long.mov", 33)
    with stand_in(reply) as served:
        session = open_session(world.options(model="judge", endpoint=endpoint(served)))
        found = session.ask(clip(path), [QUESTION])
    assert [part.span for part in found.answers[0].parts] == [(0.0, 30.0), (30.0, 33.0)]


def test_a_wrong_key_ends_everything_and_a_lost_answer_one_clip(world):
    clips = [clip(world.new / "a.mp4"), clip(world.new / "b.mp4")]
    with stand_in(lambda body: (401, '{"error": {"message": "wrong key"}}')) as served:
        session = open_session(world.options(model="judge", endpoint=endpoint(served)))
        with pytest.raises(EndpointError, match="wrong key"):
            list(ask_all(session, clips, [QUESTION]))
    with stand_in(lambda body: (200, "<html>")) as served:
        session = open_session(world.options(model="judge", endpoint=endpoint(served)))
        assert all(found.failed for found in ask_all(session, clips, [QUESTION]))


def test_a_clip_without_what_the_model_takes_is_named(world, adapter_folder, tmp_path):
    session = open_session(world.options(model=str(adapter_folder)))
    assert isinstance(session, MediaSession)
    with pytest.raises(SettingError, match="--fps"):
        open_session(world.options(model=str(adapter_folder), fps=2.0))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(SettingError, match=r"The other clip, broken\.mp4, can't be used"):
        list(ask_all(session, [clip(world.new / "a.mp4")] * 2, [QUESTION], clip(broken)))
    with pytest.raises(DataError, match=r"mute\.mp4.*nothing that the model takes \(audio\)"):
        list(ask_all(session, [clip(world.new / "mute.mp4")], [QUESTION]))


def test_a_clip_named_by_its_id_is_shown_as_its_file(world, adapter_folder):
    session = open_session(world.options(model=str(adapter_folder), cache=world.cache))
    by_id = session.ask(AskedClip("held/happy/0"), [QUESTION])
    assert by_id.answers == session.ask(clip(world.held / "0.mp4"), [QUESTION]).answers
    moved = world.held / "0.mp4"
    moved.rename(moved.with_suffix(".gone"))
    try:
        with pytest.raises(MissingFileError, match=r"held/happy/0.*is gone"):
            session.ask(AskedClip("held/happy/0"), [QUESTION])
    finally:
        moved.with_suffix(".gone").rename(moved)
