"""What is said of a model that answers by letter without reading the options."""

from dataclasses import replace

import pytest

from avem.evaluate.emorealm.notes import letter_note, notes
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.emorealm.summary import summarise, to_markdown
from avem.records import Question

WHAT = ("(A) A smile.", "(B) Tears.", "(C) A wall.")


def result(scores, answers, choices=WHAT, style="letters"):
    """A model that scored each question's options so."""
    items = [
        Item(Question(f"q{n}", f"{n}.mp4", "reasoning_basic_video", "What shows it?", choices, answer), logprobs=values)
        for n, (values, answer) in enumerate(zip(scores, answers, strict=True))
    ]
    return score_items(items, resamples=10, name="mine", style=style)


@pytest.mark.parametrize("style", ["letters", "cloze"])
def test_letters_that_the_tokenizer_does_not_know(style):
    ties = result([(-1.0, -1.0, -1.0)] * 4, "ABCA", style=style)
    assert ("exactly as likely as each other in 4 of 4" in letter_note(ties)) == (style == "letters")
    assert letter_note(result([(-1.0, -1.0, -1.0)] * 2 + [(-1.0, -2.0, -3.0)] * 2, "ABCA")) == ""


def test_one_letter_whatever_the_options_are():
    a = (-1.0, -2.0, -3.0)
    note = letter_note(result([a] * 12, "ABC" * 4))
    assert "(A) in 12 of 12" in note
    assert "--style cloze" in note
    assert note in " ".join(notes([result([a] * 12, "ABC" * 4)]))
    assert letter_note(result([a] * 12, "A" * 12)) == "", "the answers are all A"
    assert letter_note(result([a] * 9, "ABC" * 3)) == "", "too few questions"
    assert letter_note(result([a] * 10 + [(-2.0, -1.0, -3.0)] * 2, "ABC" * 4)) == ""


def test_a_model_that_says_yes_to_everything_reads_its_options():
    assert letter_note(result([(-1.0, -2.0)] * 12, "AB" * 6, ("(A) Yes", "(B) No"))) == ""


def test_the_column_of_the_second_method_is_called_by_its_name():
    both = score_items(
        [replace(item, reply="B", reply_letter="B") for item in result([(-1.0, -2.0, -3.0)] * 3, "ABC").items],
        resamples=10,
        name="mine",
    )
    assert "as written" in to_markdown(summarise([both]), ["mine"]).splitlines()[0]
    assert any(note.startswith("as written: ") for note in notes([both]))
    assert not any(note.startswith("as written: ") for note in notes([result([(-1.0, -2.0, -3.0)] * 3, "ABC")]))
    written = both.with_headline("generation")
    assert "likeliest" in to_markdown(summarise([written]), ["mine"]).splitlines()[0]
    assert "other method" in to_markdown(summarise([both, written]), ["mine", "again"]).splitlines()[0]
