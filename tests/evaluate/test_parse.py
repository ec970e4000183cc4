"""The strict reader of replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.evaluate.parse import parse_reply, parse_text
from avem.records import Question

YES_NO = Question("q", "v", "modality_agreement", "?", ("(A) Yes", "(B) No"), "A")
LONG = Question("q", "v", "reasoning_stress_audio", "?", ("(A) No, it does not", "(B) Yes, it does"), "A")
FOUR = Question("q", "v", "t", "?", ("(A) Wide eyes", "(B) A frown", "(C) Tears now", "(D) A smile"), "A")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("A", "A"), ("  b)  ", "B"), ("[B]", "B"), ("(b).", "B"), ("B\n", "B"), ("**B**", "B"),
        ("(B) No", "B"), ("A: Yes", "A"), ("The answer is (B) no", "B"), ("Answer:B", "B"),
        ("answer is b, because", "B"),
        ("option A, not B", "A"), ("yes", "A"), ("No, because", "B"), ("No.", "B"), ("yes it does", "A"),
        ("(B)</s>", "B"), ("\\boxed{B}", "B"),
        ("a man smiles", None), ("It shows a man who is sad", None), ("Both (A) and (B)", None), ("A or B", None),
        ("(A) No", None), ("(E)", None), ("E", None), ("", None), ("no idea", None), ("notably", None),
        ("yes and no", None),
        ("the answer is a mystery", None), ("BYes", None), ("C'est la vie", None), ("not (B)", None),
        ("Vitamin D", None),
    ],
)  # fmt: skip
def test_yes_no(reply, letter):
    assert parse_reply(reply, YES_NO) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("shows a man, so (c)", "C"), ("A smile", "D"), ("A smile.", "D"), ("I think that a smile is right", "D"),
        ("Wide eyes and a smile", "A"), ("I see wide eyes and a smile", None), ("(D) a smile", "D"),
        ("(D) a frown", None),
        ("a", "A"), ("i'd say no", None), ("Bad audio, cannot decide", None),
    ],
)  # fmt: skip
def test_four_options(reply, letter):
    assert parse_reply(reply, FOUR) == letter


def test_sentence_options():
    assert parse_reply("No, it does not", LONG) == "A"
    assert parse_reply("Yes.", LONG) == "B"
    assert parse_reply("no, the rain does not explain it", LONG) == "A"
    assert parse_reply("nothing", LONG) is None
    assert parse_reply("Yes, there is no doubt", YES_NO) == "A"


@pytest.mark.parametrize(
    ("reply", "letter"), [("wide eyes", "A"), ("Tears now, a lot", "C"), ("a", None), ("tea", None)]
)
def test_text_alone(reply, letter):
    assert parse_text(reply, FOUR) == letter


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(["{}", "({})", "[{}]", "{}.", "{})", "{}:", " {} ", "Answer: {}", "({}) {text}"]),
)
def test_every_usual_spelling_of_a_letter(letter, spelling):
    text = dict(zip("ABCD", ("Wide eyes", "A frown", "Tears now", "A smile"), strict=True))[letter]
    assert parse_reply(spelling.format(letter, text=text), FOUR) == letter
    assert parse_reply(spelling.format(letter, text=text).lower(), FOUR) == letter


@given(st.text(max_size=60))
def test_any_text_gives_an_option_or_nothing(reply):
    assert parse_reply(reply, FOUR) in {None, "A", "B", "C", "D"}
    assert parse_text(reply, YES_NO) in {None, "A", "B"}
