"""A tie is no answer: it is neither right nor wrong by the order in which options are listed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.evaluate.choice import likeliest
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.recognition.results import LabelItem
from avem.evaluate.recognition.results import likeliest as label
from avem.records import Question


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=6))
def test_the_choice_does_not_depend_on_the_order(values):
    chosen, turned = likeliest(values), likeliest(values[::-1])
    assert (chosen is None) == (turned is None) == (values.count(max(values)) > 1)
    if chosen is not None:
        assert values[chosen] == values[::-1][turned] == max(values)


@pytest.mark.parametrize("answer", ["A", "B"])
def test_a_model_that_can_not_tell_letters_apart_is_right_about_nothing(answer):
    questions = [
        Question(f"q{number}", f"c{number}", "reasoning_basic_audio", "?", ("(A) a", "(B) b"), answer)
        for number in range(4)
    ]
    items = [Item(question, logprobs=(-6.9, -6.9)) for question in questions]
    score = score_items(items, name="tied", style="letters", resamples=0).score
    assert score["tasks"]["reasoning_basic_audio"]["accuracy"] == 0
    assert items[0].letter("likelihood") is None


def test_two_labels_as_likely_are_no_label():
    assert label(LabelItem("clip", "clip.mp4", "anger", logprobs=(-1.0, -1.0, -3.0)), ("anger", "fear", "joy")) is None
    assert (
        label(LabelItem("clip", "clip.mp4", "anger", logprobs=(-1.0, -0.5, -3.0)), ("anger", "fear", "joy")) == "fear"
    )
