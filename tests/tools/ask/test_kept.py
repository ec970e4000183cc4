"""Answers that are kept: what is written is read again, and only what nothing has changed about is used again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from avem.errors import SettingError
from avem.tools.ask.features import FeatureSession
from avem.tools.ask.inputs import AskedClip
from avem.tools.ask.kept import LOG, from_record, keeping, to_record
from avem.tools.ask.results import (
    AskedModel,
    ClipAnswer,
    Condition,
    Emotions,
    Known,
    PartAnswer,
    QuestionAnswer,
    Reading,
)

LONG = ClipAnswer(
    "talk.mp4",
    Path("clips/talk.mp4"),
    ((0.0, 30.0), (30.0, 41.5)),
    41.5,
    "encoded now",
    Emotions("Which?", {Condition.FULL: ((-1.25,) * 7, (-0.1, -2, -3, -4, -5, -6, -7.5))}),
    (
        QuestionAnswer(
            "Why?",
            (
                PartAnswer({Condition.FULL: Reading("so", -0.1), Condition.TEXT: Reading("no")}, (0.0, 30.0), True),
                PartAnswer({Condition.FULL: Reading("", None)}, (30.0, 41.5)),
            ),
        ),
    ),
    "b.mp4",
    ("No audio: it is silent.",),
)
NAMED = ClipAnswer("a", answers=LONG.answers, emotions=Emotions("Which?", named={Condition.TEXT: ("joy", "")}))


@pytest.mark.parametrize("answer", [LONG, NAMED], ids=["windows", "endpoint"])
def test_a_record_is_the_answer(answer):
    assert from_record(json.loads(json.dumps(to_record(answer)))) == answer


class Session:
    """Answers with the question and the file's content, and remembers what it was asked."""

    def __init__(self, **identity):
        self.asked, self._identity = [], identity

    about = AskedModel("m", "fake")
    label = ""

    def identity(self):
        return self._identity

    def content(self, clip):
        return {"file": clip.path.read_text()}

    def known(self, clip, questions):
        return Known(label=self.label)

    def ask(self, clip, questions, against=None):
        self.asked.append((clip.name, list(questions)))
        answers = [
            QuestionAnswer(each, (PartAnswer({Condition.FULL: Reading(f"{each} {clip.path.read_text()}")}),))
            for each in questions
        ]
        other = "" if against is None else against.name
        return ClipAnswer(clip.name, clip.path, answers=tuple(answers), other=other)


def file(path, text):
    path.write_text(text)
    return AskedClip(path.name, path)


def test_only_what_is_new_is_asked(tmp_path):
    session, clip = Session(model=1), file(tmp_path / "a", "A")
    with keeping(session, tmp_path / "out") as kept:
        kept.ask(clip, ["p"])
        found = kept.ask(clip, ["q", "p"])
    assert [answer.question for answer in found.answers] == ["q", "p"]
    assert session.asked == [("a", ["p"]), ("a", ["q"])]
    again = Session(model=1)
    with keeping(again, tmp_path / "out") as kept:
        assert kept.ask(clip, ["q", "p"]) == found
        renamed = kept.ask(file(tmp_path / "new name", "A"), ["p"])
    assert (again.asked, renamed.name, renamed.path) == ([], "new name", tmp_path / "new name")


def test_what_is_known_is_looked_up_again_for_a_kept_answer(tmp_path):
    """A label may be corrected after the answer was kept."""
    session, clip = Session(), file(tmp_path / "a", "A")
    with keeping(session, tmp_path / "out") as kept:
        kept.ask(clip, ["q"])
        session.label = "joy"
        assert kept.ask(clip, ["q"]).known.label == "joy"
    assert len(session.asked) == 1


@pytest.mark.parametrize("change", ["content", "model", "question", "other clip", "its content"])
def test_what_an_answer_depends_on_is_asked_again(tmp_path, change):
    clip, other = file(tmp_path / "a", "A"), file(tmp_path / "b", "B")
    with keeping(Session(model=1), tmp_path / "out") as kept:
        kept.ask(clip, ["q"], other)
    if change == "content":
        file(tmp_path / "a", "changed")
    if change == "its content":
        file(tmp_path / "b", "changed")
    again = Session(model=2 if change == "model" else 1)
    question, against = "r" if change == "question" else "q", None if change == "other clip" else other
    with keeping(again, tmp_path / "out") as kept:
        kept.ask(clip, [question], against)
    assert again.asked == [("a", [question])]


def test_a_folder_that_keeps_nothing_is_removed_and_another_is_left_alone(tmp_path):
    with keeping(Session(), tmp_path / "out" / "ask"):
        pass
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / LOG).write_text("not avem's")
    with pytest.raises(SettingError, match="mine"), keeping(Session(), tmp_path / "mine"):
        pass
    assert (tmp_path / "mine" / LOG).read_text() == "not avem's"


def test_a_model_over_features_is_told_apart_by_everything_it_depends_on(world, tmp_path):
    clip = AskedClip("a.mp4", world.new / "a.mp4")
    session = FeatureSession(world.options())
    assert FeatureSession(world.options(device="cpu", question="?"), session.model).identity() == session.identity()
    for change in ({"max_new_tokens": 7}, {"windows": False}, {"emotion_question": "?"}):
        assert FeatureSession(world.options(**change), session.model).identity() != session.identity(), change
    copied = shutil.copytree(world.root / "video", tmp_path / "video")
    other = FeatureSession(world.options(video_encoder=str(copied)), session.model)
    before = other.content(clip)
    assert before != session.content(clip), "another encoder"
    (copied / "config.json").write_text((copied / "config.json").read_text() + "\n")
    assert other.content(clip) != before, "its files were changed"
    with_store = FeatureSession(world.options(cache=world.cache), session.model)
    held, by_id = AskedClip("0.mp4", world.held / "0.mp4"), AskedClip("held/happy/0")
    assert with_store.content(held) == with_store.content(by_id), "one clip, named in two ways"
    assert with_store.content(held) != with_store.content(AskedClip("held/happy/1"))
