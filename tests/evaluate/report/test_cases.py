"""The cases under the verdict: counts by hand, the clearest example, and what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avem.evaluate import write_report
from avem.evaluate.emorealm.questions import letters
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.report.cards import make_cards
from avem.evaluate.report.cases import make_cases
from avem.records import Question

STRESS = "reasoning_stress_video"

ANSWERS = "AABBAB"
"""Right answers of six yes/no questions, of which A is yes."""


def answered(name, chosen, sure):
    """A model that chooses these options; the log-odds of its choices grow with `sure`."""
    items = []
    for number, (answer, choice, odds) in enumerate(zip(ANSWERS, chosen, sure, strict=True)):
        question = Question(f"q{number}", f"{number}.mp4", STRESS, "?", ("(A) Yes", "(B) No"), answer, {})
        logprobs = tuple(0.0 if letter == choice else -odds for letter in letters(question))
        items.append(Item(question, f"c/{number}", f"{number}.mp4", "", logprobs))
    return score_items(items, resamples=20, name=name, style="letters")


@pytest.fixture
def pair():
    base = answered("base", "AAAAAA", [1, 1, 1, 1, 1, 1])  # always yes
    return base, answered("new", "BABBBA", [2, 1, 1, 3, 1, 2])


def by_outcome(results):
    cards = make_cards(results, [], Path("page.html"), 0)
    return {case.outcome: case for case in make_cases([result.name for result in results], cards)}


def test_questions_are_counted_by_case(pair):
    cases = by_outcome(pair)
    assert {name: case.count for name, case in cases.items()} == {"gained": 2, "neither": 1, "lost": 2}
    assert cases["gained"].answers == (("yes", 0), ("no", 2))
    assert cases["lost"].answers == (("yes", 2), ("no", 0))
    assert [case.title for case in cases.values()] == ["Fixed", "Still wrong", "Broken"]
    assert cases["gained"].tasks == (("Stress, visual", 2),)


def test_the_example_is_where_the_model_moved_most(pair):
    cases = by_outcome(pair)
    assert cases["gained"].example.id == "q3"
    assert cases["lost"].example.id == "q0"
    assert cases["neither"].example.id == "q5"


def test_a_single_model_has_two_cases(pair):
    cases = by_outcome(pair[:1])
    assert {name: (case.title, case.count) for name, case in cases.items()} == {
        "right": ("Right", 3),
        "wrong": ("Wrong", 3),
    }


def test_a_case_without_questions_has_no_example(pair):
    cases = by_outcome((pair[0], pair[0]))
    assert [case.count for case in cases.values()] == [0, 3, 0]
    assert cases["gained"].example is None


def test_the_page_tells_a_shift_to_no_from_a_better_model(pair, tmp_path):
    text = re.sub(r"[ \n]+", " ", write_report(tmp_path / "r.html", pair, paper=False, resamples=20).read_text())
    assert "points, of too few questions to say more. new says yes to 33.3\N{NO-BREAK SPACE}% of the" in text
    assert "yes/no questions and base to 100.0" in text
    assert "yes is right for 50.0\N{NO-BREAK SPACE}%." in text
    assert "the right answer is yes in 0 and no in 2." in text
    assert "AUC 50.0 → 50.0 (50: no better than chance)" in text
    assert text.index('id="cases"') < text.index('id="scores"') < text.index('id="explorer"')
