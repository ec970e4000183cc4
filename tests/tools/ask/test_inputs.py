"""What the command line means, which model answers where none is named, and what is said of what is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from avem.errors import DataError, MissingFileError, SettingError
from avem.tools.ask.inputs import AskedClip, find_asked, find_clip, read_questions
from avem.tools.ask.settings import QUESTION, AskOptions, check_options, with_kit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files by name alone: what is in them is looked at later."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.MKV", ".hidden.mp4", "notes.txt", "deep/c.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return tmp_path


def names(asked):
    return [clip.name for clip in asked.clips]


def test_the_last_argument_is_the_question(folder):
    asked = find_asked(["b.mp4", "a.MKV", " What does she feel? "])
    assert names(asked) == ["b.mp4", "a.MKV"]
    assert asked.questions == ("What does she feel?",)
    assert find_asked(["b.mp4"]).questions == ()
    assert names(find_asked(["b.mp4", "b.mp4", "Why?"])) == ["b.mp4"]


def test_a_folder_is_all_clips_below_it(folder):
    found = find_asked([".", "Why?"])
    assert sorted(names(found)) == ["a.MKV", "b.mp4", "deep/c.wav"]
    with pytest.raises(SettingError, match="is a folder"):
        find_clip(".")


def test_what_looks_like_a_clip_and_is_not_there_is_no_question(folder):
    for items in (["b.mp4", "typo.mp4"], ["typo.mp4", "Why?"], ["typo", "Why?"]):
        with pytest.raises(MissingFileError, match="There is no clip typo"):
            find_asked(items)
    (folder / "empty").mkdir()
    with pytest.raises(MissingFileError, match="no clips below empty"):
        find_asked(["empty", "Why?"])
    with pytest.raises(SettingError, match="no clip to ask about"):
        find_asked(["Why?"])
    for empty in ("", "  "):  # as a path, "" is the current folder
        with pytest.raises(SettingError, match="question is empty"):
            find_asked(["b.mp4", empty])
    os.mkfifo("pipe.mp4")
    with pytest.raises(MissingFileError, match=r"pipe\.mp4 is a FIFO"):
        find_asked(["pipe.mp4", "Why?"])


def test_a_question_without_quotes_is_seen(folder):
    with pytest.raises(SettingError, match=r"no clip 'What'.*put it in quotes: \"What shows the"):
        find_asked(["b.mp4", "What", "shows", "the", "feeling?"])
    with pytest.raises(MissingFileError):  # one word may well be a clip's name
        find_asked(["b.mp4", "anna", "Why?"])


def test_ids_are_clips_where_there_is_a_store(folder, tmp_path):
    """A store whose manifest can't be read says so when it is opened."""
    assert find_asked(["held/0", "Why?"], store=tmp_path).clips == (AskedClip("held/0"),)
    assert find_asked(["b.mp4", "held/0"], store=tmp_path).clips[1] == AskedClip("held/0")
    with pytest.raises(MissingFileError):
        find_asked(["held/0", "Why?"])
    with pytest.raises(MissingFileError, match=r"typo\.mp4"):
        find_asked(["typo.mp4", "Why?"], store=tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.txt", "One?\n\nTwo?\nOne?\n"),
        ("q.txt", "\ufeffOne?\r\nTwo?\r\n"),
        ("q.json", json.dumps(["One?", {"question": "Two?", "choices": ["A"]}])),
        ("q.jsonl", '{"question": "One?"}\n"Two?"\n'),
    ],
)
def test_questions_come_from_files(folder, name, text):
    Path(name).write_text(text, encoding="utf-8")
    assert read_questions(Path(name)) == ["One?", "Two?"]
    asked = find_asked(["b.mp4", "a.MKV"], Path(name))
    assert (len(asked.clips), asked.questions) == (2, ("One?", "Two?"))


def test_files_without_questions_are_refused(folder):
    Path("q.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no question"):
        read_questions(Path("q.txt"))
    Path("q.json").write_text('[{"text": "One?"}]')
    with pytest.raises(DataError, match=r"q\.json entry 1 has no question"):
        read_questions(Path("q.json"))
    with pytest.raises(MissingFileError, match="--questions"):
        read_questions(Path("none.txt"))


def test_without_a_model_the_last_training_answers_then_the_demo(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"No model was named.*avem demo"):
        with_kit(AskOptions(model=""))
    (tmp_path / "demo").symlink_to(world.root)
    found = with_kit(AskOptions(model=""))
    assert (found.model, found.question) == ("demo/model", "What is felt?")
    assert (found.video_encoder, found.cache) == ("demo/video", Path("demo/cache"))
    given = with_kit(AskOptions(model="demo", audio_encoder="mine", emotion_question="Mine?"))
    assert (given.model, given.audio_encoder, given.emotion_question) == ("demo/model", "mine", "Mine?")
    final = tmp_path / "runs" / "avem-dpo" / "final"
    final.mkdir(parents=True)
    (final / "config.json").write_text("{}")
    found = with_kit(AskOptions(model=""))
    assert (found.model, found.question) == ("runs/avem-dpo", QUESTION)


def test_a_kit_that_is_none_is_refused(tmp_path):
    (tmp_path / "ask.json").write_text('{"model": "m", "code": "x"}')
    with pytest.raises(DataError, match=r"ask\.json should hold"):
        with_kit(AskOptions(model=str(tmp_path)))
    (tmp_path / "ask.json").write_text("[")
    with pytest.raises(DataError, match=r"ask\.json is not what"):
        with_kit(AskOptions(model=str(tmp_path)))


def test_options_that_can_not_work_are_refused(world):
    with pytest.raises(SettingError, match=r"needs \{\}"):
        AskOptions(model="m", emotion_question="?", emotion_answer="joy")
    with pytest.raises(SettingError, match="--emotion-question"):
        AskOptions(model="m", emotion_answer="It is {}.")
    with pytest.raises(MissingFileError, match=r"There is no model at \./none"):
        check_options(AskOptions(model="./none"))
    with pytest.raises(MissingFileError, match="--video-encoder"):
        check_options(AskOptions(model=str(world.model), video_encoder="./none"))
    with pytest.raises(MissingFileError, match="no feature store at none"):
        check_options(world.options(cache=Path("none")))
