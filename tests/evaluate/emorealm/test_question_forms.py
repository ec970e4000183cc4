"""Benchmark files as people write them: answers as letters or texts, options without letters, lists or lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.errors import DataError
from avem.evaluate.emorealm import read_questions, score
from avem.records import Question

RIGHT = Question("1", "1.mp4", "modality_agreement", "Do they agree?", ("(A) Yes", "(B) No"), "B")
ENTRY = {"id": 1, "video": "1.mp4", "task": "modality_agreement", "question": "Do they agree?"}


def write(path, *entries):
    lines = path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, entries)) if lines else json.dumps(entries))
    return path


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "(B) No", "B: no", "No", " no "])
@pytest.mark.parametrize(
    "choices", [["(A) Yes", "(B) No"], ["Yes", "No"], {"A": "Yes", "B": "No"}, ["A. Yes", "B. No"]]
)
@pytest.mark.parametrize("name", ["q.json", "q.jsonl"])
def test_every_form_is_the_same_question(tmp_path, answer, choices, name):
    (read,) = read_questions(write(tmp_path / name, ENTRY | {"choices": choices, "answer": answer}))
    assert read.answer == "B" or read.answer == answer == "b"
    assert read.choices in (RIGHT.choices, ("A. Yes", "B. No"))
    assert read.question == RIGHT.question


@pytest.mark.parametrize(
    ("choices", "answer", "said"),
    [
        (["(A) Yes", "(B) No"], "(A) No", "none of its options"),
        (["Yes", "yes"], "Yes", "none of its options"),
        (["(A) Yes", "No"], "No", "should start with"),
        (["(B) Yes", "(A) No"], "A", "should start with"),
        (["Yes", "No"], "Maybe", "none of its options"),
        (["Yes"], "Yes", "has 1 options"),
        (list("VWXYZ"), "V", "has 5 options"),
    ],
)
def test_what_is_not_certain_is_refused(tmp_path, choices, answer, said):
    with pytest.raises(DataError, match=said):
        read_questions(write(tmp_path / "q.json", ENTRY | {"choices": choices, "answer": answer}))


WORDS = st.text("abcdefg hij", min_size=2, max_size=8).map(str.strip).filter(lambda text: len(text) > 1)


@given(st.lists(WORDS, min_size=2, max_size=4, unique=True), st.data())
def test_scores_do_not_depend_on_the_form(texts, data):
    right = data.draw(st.integers(0, len(texts) - 1))
    lettered = [f"({letter}) {text}" for letter, text in zip("ABCD", texts, strict=False)]
    forms = [(lettered, "ABCD"[right]), (texts, texts[right]), (texts, lettered[right]), (lettered, texts[right])]
    replies = {"1": f"({data.draw(st.sampled_from('ABCD'[: len(texts)]))})"}
    scores = [
        score([ENTRY | {"id": "1", "task": "reasoning_basic_audio", "choices": choices, "answer": answer}], replies)
        for choices, answer in forms
    ]
    assert all(each == scores[0] for each in scores)


def test_a_list_in_utf_16_reads(tmp_path):
    path = tmp_path / "q.json"
    path.write_bytes(json.dumps([ENTRY | {"choices": ["Yes", "No"], "answer": "No"}]).encode("utf-16"))
    assert read_questions(path)[0].answer == "B"
