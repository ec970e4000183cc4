"""EmoReAlM scoring: the reference's numbers to the last digit, and ours by hand."""

import json

import pytest

from avem.errors import DataError
from avem.evaluate import emorealm
from avem.evaluate.emorealm.questions import to_question
from avem.evaluate.emorealm.reference import is_right, parses, strip_label
from avem.records import Question


@pytest.fixture(scope="module")
def reference(golden):
    folder = golden / "emorealm"
    read = {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("emorealm_v1", "predictions", "expected")
    }
    return read["emorealm_v1"], read["predictions"], read["expected"]


@pytest.mark.parametrize("use_parse_answer", [False, True])
def test_reference_numbers(reference, use_parse_answer):
    questions, answers, expected = reference
    metrics = emorealm.score(questions, answers, reference_scoring=True, use_parse_answer=use_parse_answer)
    wanted = expected["metrics"][f"use_parse_answer_{use_parse_answer}"]
    assert metrics.keys() == wanted.keys()
    assert metrics == pytest.approx(wanted, abs=1e-9)


def test_reference_items(reference):
    questions, answers, expected = reference
    for entry in questions:
        if entry["id"] in answers:
            question = to_question(entry, "here")
            got = {
                "match": is_right(question, answers[question.id]),
                "parse": is_right(question, answers[question.id], True),
            }
            assert got == expected["per_item"][question.id], question.id


def test_reference_matcher_cases(reference):
    for case in reference[2]["matcher_cases"]:
        question = Question("q", "v", "t", "?", tuple(case["choices"]), case["answer"])
        assert is_right(question, case["prediction"]) == case["match"], case
        assert parses(case["prediction"], case["answer"], case["choices"]) == case["parse"], case
    for case in reference[2]["rstrip_cases"]:
        assert strip_label(case["choice"]) == case["rstrip_choice"]


def test_nothing_right_divides_by_zero_in_the_reference_only():
    questions = [_yes_no("1", "A"), _yes_no("2", "B")]
    metrics = emorealm.score(questions, {"1": "B", "2": "A"}, reference_scoring=True)
    assert metrics["modality_agreement_f1_score"] == 0.0


def _yes_no(name, answer, video="v.mp4", **extra):
    return {
        "id": name,
        "video": video,
        "task": "modality_agreement",
        "question": "Agree?",
        "choices": ["(A) Yes", "(B) No"],
        "answer": answer,
        **extra,
    }


def _basic(name, answer):
    choices = ["(A) a smile", "(B) a frown", "(C) tears", "(D) wide eyes"]
    return {
        "id": name,
        "video": "w.mp4",
        "task": "reasoning_basic_video",
        "question": "Why?",
        "choices": choices,
        "answer": answer,
    }


def test_ours_by_hand():
    questions = [_yes_no("1", "A"), _yes_no("2", "A"), _yes_no("3", "B"), _yes_no("4", "B"), _yes_no("5", "B")]
    questions += [_basic("6", "A"), _basic("7", "A")]
    answers = {
        "1": "(A)",
        "2": "A man smiles",
        "3": "No",
        "4": "(A) Yes",
        "6": "a smile",
        "7": "Both (A) and (B)",
        "x": "A",
    }
    result = emorealm.score(questions, answers)
    task = result["tasks"]["modality_agreement"]
    assert task["n"] == 5
    assert task["accuracy"] == pytest.approx(40)
    assert task["yes_accuracy"] == pytest.approx(50)
    assert task["no_accuracy"] == pytest.approx(100 / 3)
    assert task["f1"] == pytest.approx(40)
    assert task["yes_share"] == pytest.approx(40)
    assert task["chance"] == 50
    assert (task["missing"], task["unreadable"]) == (1, 1)
    basic = result["tasks"]["reasoning_basic_video"]
    assert basic["accuracy"] == 50
    assert basic["chance"] == 25
    assert basic["f1"] is None
    assert result["average_accuracy"] == pytest.approx(45)
    assert result["modality_agreement_overall_accuracy"] == task["accuracy"]
    assert (result["missing"], result["unreadable"], result["unknown"]) == (["5"], ["2", "7"], ["x"])


def test_subtasks():
    questions = [_yes_no("1", "A", subtask="no hallucination"), _yes_no("2", "B", subtask="spurious")]
    result = emorealm.score(questions, {"1": "A", "2": "A"})
    assert result["subtasks"]["modality_agreement"]["no hallucination"]["accuracy"] == 100
    assert result["subtasks"]["modality_agreement"]["spurious"]["accuracy"] == 0


def test_read_golden_file(golden):
    questions = emorealm.read_questions(golden / "emorealm" / "emorealm_v1.json")
    assert len(questions) == 60
    assert questions[0].choices == ("(A) No", "(B) Yes")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "E"}, "none of its options"),
        ({"choices": [f"({letter}) x" for letter in "ABCDE"]}, "5 options"),
        ({"choices": ["(A) x"]}, "1 options"),
        ({"choices": ["(B) x", "(A) y"]}, r"should start with \(A\)"),
        ({"choices": "AB"}, "list of strings"),
        ({"choices": None}, "list of strings"),
    ],
)
def test_questions_that_cannot_be_judged(tmp_path, change, said):
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([_yes_no("1", "A"), _yes_no("2", "A") | change]))
    with pytest.raises(DataError, match=said):
        emorealm.read_questions(path)


def test_broken_files(tmp_path):
    path = tmp_path / "questions.json"
    for text, said in [
        ("[{", "not JSON"),
        ("[]", "an empty list"),
        ("{}", "an object"),
        ("[1]", "should be an object"),
        (json.dumps([{"id": "a", "video": "v"}]), "has no task, question, choices, answer"),
        (json.dumps([_yes_no("a", "A")] * 2), "occurs 2 times"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            emorealm.read_questions(path)
    with pytest.raises(FileNotFoundError, match="--questions"):
        emorealm.read_questions(tmp_path / "none.json")
