"""Answers as text: numbers by hand, 80 columns whatever is in them, and no codes for the terminal."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.tools.ask.results import (
    LABELS,
    AskedModel,
    ClipAnswer,
    Condition,
    Emotions,
    PartAnswer,
    QuestionAnswer,
    Reading,
)
from avem.tools.ask.text import clip_lines, model_lines, times, verdict

FULL, NO_SOUND, TEXT = Condition.FULL, Condition.NO_SOUND, Condition.TEXT


def answer(question="What?", **logprobs):
    """One answer whose log-probabilities are given by condition."""
    readings = {Condition[name]: Reading(f"says {name}", value) for name, value in logprobs.items()}
    return QuestionAnswer(question, (PartAnswer(readings),))


def emotions():
    first = tuple(math.log(value) for value in (0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1))
    even = (-3.0,) * 7
    return Emotions("Which?", {FULL: (first,), TEXT: (even,)})


def test_the_verdict_says_how_many_times_less_likely():
    found = answer(FULL=-1.0, NO_SOUND=-1.0 - math.log(12), NO_PICTURE=-0.9, TEXT=-30.0)
    assert verdict(found) == (
        "Compared with the clip as it is, the same answer is 12 times less likely without the sound, about as likely "
        "without the picture and over 1,000 times less likely from the text alone."
    )
    assert times(math.log(3)) == "3.0 times more likely"
    assert verdict(answer(FULL=None, NO_SOUND=None)) == ""


def test_windows_are_pooled_by_their_mean():
    parts = tuple(
        PartAnswer({FULL: Reading("a", -1.0), NO_SOUND: Reading("b", value)}, (30.0 * n, 30.0 * n + 30))
        for n, value in enumerate((-2.0, -5.0))
    )
    found = QuestionAnswer("What?", parts)
    assert found.change(NO_SOUND) == pytest.approx(-2.5)
    lines = clip_lines(ClipAnswer("a.mp4", spans=((0.0, 30.0), (30.0, 60.0)), answers=(found,)))
    assert "A: 0:00-0:30 a" in lines
    assert any("0:30-1:00" in line for line in lines)
    assert any("-2.50 nats" in line for line in lines)


def test_the_bars_show_shares_of_all_conditions():
    lines = clip_lines(ClipAnswer("a.mp4", emotions=emotions()), plain=True)
    first, second = next(line for line in lines if "happiness" in line), next(line for line in lines if "fear" in line)
    assert first.split() == ["happiness", "######", "40.0", "14.3"]
    assert second.split() == ["fear", "##", "10.0", "14.3"]
    blocks = clip_lines(ClipAnswer("a.mp4", emotions=emotions()))
    assert any("\N{FULL BLOCK}" * 6 + "\N{LEFT THREE EIGHTHS BLOCK}" in line for line in blocks)


def test_every_condition_fits_eighty_columns():
    six = {each.name: -1000.0 * number for number, each in enumerate(Condition)}
    logprobs = {each: ((-1.0,) * 7,) for each in Condition}
    clip = ClipAnswer("a.mp4", answers=(answer(**six),), emotions=Emotions("?", logprobs), other="b.mp4")
    assert max(map(len, clip_lines(clip))) <= 80


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_out_of_its_line(name, question, said):
    reading = Reading(said, -1.0)
    found = QuestionAnswer(question, (PartAnswer({FULL: reading, NO_SOUND: reading}),))
    clip = ClipAnswer(name, answers=(found,), emotions=Emotions(question, named={FULL: ("",)}), other=name)
    for lines in (clip_lines(clip), clip_lines(ClipAnswer(name, failed=said)), model_lines(AskedModel(name, "x"))):
        for line in lines:
            assert len(line) <= 80
            assert line.isprintable() or not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in line)


def test_the_json_holds_everything():
    clip = ClipAnswer("a.mp4", duration_s=2.0, answers=(answer(FULL=-1.0, TEXT=-3.0),), emotions=emotions())
    found = json.loads(json.dumps(clip.to_json()))
    assert found["answers"][0]["parts"][0]["conditions"]["text_alone"] == {"answer": "says TEXT", "logprob": -3.0}
    assert found["answers"][0]["changes"] == {"text_alone": -2.0}
    assert found["emotions"]["shares"]["as_it_is"]["happiness"] == pytest.approx(0.4)
    assert list(found["emotions"]["shares"]["as_it_is"]) == list(LABELS)
    assert ClipAnswer("b.mp4", failed="broken").to_json() == {"version": 1, "clip": "b.mp4", "failed": "broken"}
