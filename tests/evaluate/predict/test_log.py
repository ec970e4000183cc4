"""Answers from files."""

import json

import pytest

from avem.errors import DataError, MissingFileError
from avem.evaluate.predict.answers import read_answers

WANTED = {"1": "(A) Yes", "2": "b"}


def test_every_form_reads_the_same(tmp_path):
    objects = [{"id": "1", "prediction": "(A) Yes"}, {"id": 2, "answer": "b"}]
    (tmp_path / "a.json").write_text(json.dumps(WANTED))
    (tmp_path / "b.json").write_text(json.dumps(objects))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in objects))
    for name, text in WANTED.items():
        (tmp_path / f"{name}.txt").write_text(text)
    for path in ("a.json", "b.json", "c.jsonl", "."):
        assert read_answers(tmp_path / path) == WANTED, path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "3", "should hold an object"),
        ("a.json", '{"1": 2}', "answer of 1 is not text"),
        ("a.json", "[1]", "entry 1"),
        ("a.json", '[{"id": 1}]', "no text in any of"),
        ("a.json", "{}", "holds no answers"),
        ("a.json", '[{"id": 1, "answer": "A"}, {"id": 1, "answer": "B"}]', "two different answers for 1"),
        ("a.json", '{"1": "A", "1": "B"}', "two different answers for 1"),
        ("a.json", '[{"id": 1, "choices": ["(A) x"], "answer": "A"}]', "right answer, not a model's"),
        ("a.jsonl", '{"answer": "A"}\n', "has no field 'id'"),
        ("a.jsonl", '{"id": "1", "ans', "line 1"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read_answers(tmp_path / name)


def test_copied_questions_do_not_count_as_right_answers(tmp_path):
    entry = {"id": "1", "question": "?", "choices": ["(A) Yes", "(B) No"], "answer": "A", "prediction": "(B)"}
    (tmp_path / "a.jsonl").write_text(json.dumps(entry) + "\n")
    assert read_answers(tmp_path / "a.jsonl") == {"1": "(B)"}


def test_nothing_there(tmp_path):
    with pytest.raises(MissingFileError, match="no answers"):
        read_answers(tmp_path / "none.json")
    with pytest.raises(DataError, match="holds no answers"):
        read_answers(tmp_path)
    (tmp_path / "a.json").write_bytes(b'{"1": "\xff"}')
    with pytest.raises(DataError, match="UTF-8"):
        read_answers(tmp_path / "a.json")
