"""The strict reader of replies."""

# ruff: noqa: RUF001 - replies in other scripts are what is tested

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.evaluate.emer.rubric import load_rubric
from avem.evaluate.emorealm.parse import parse_reply, parse_text
from avem.evaluate.recognition.labels import SEVEN, parse_label
from avem.records import Question

YES_NO = Question("q", "v", "modality_agreement", "?", ("(A) Yes", "(B) No"), "A")
LONG = Question("q", "v", "reasoning_stress_audio", "?", ("(A) No, it does not", "(B) Yes, it does"), "A")
FOUR = Question("q", "v", "t", "?", ("(A) Wide eyes", "(B) A frown", "(C) Tears now", "(D) A smile"), "A")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("A", "A"),
        ("  b)  ", "B"),
        ("[B]", "B"),
        ("(b).", "B"),
        ("B\n", "B"),
        ("**B**", "B"),
        ("(B) No", "B"),
        ("A: Yes", "A"),
        ("The answer is (B) no", "B"),
        ("Answer:B", "B"),
        ("answer is b, because", "B"),
        ("option A, not B", "A"),
        ("yes", "A"),
        ("No, because", "B"),
        ("No.", "B"),
        ("yes it does", "A"),
        ("(B)</s>", "B"),
        ("\\boxed{B}", "B"),
        ("a man smiles", None),
        ("It shows a man who is sad", None),
        ("Both (A) and (B)", None),
        ("A or B", None),
        ("(A) No", None),
        ("(E)", None),
        ("E", None),
        ("", None),
        ("no idea", None),
        ("notably", None),
        ("yes and no", None),
        ("the answer is a mystery", None),
        ("BYes", None),
        ("C'est la vie", None),
        ("not (B)", None),
        ("Vitamin D", None),
    ],
)
def test_yes_no(reply, letter):
    assert parse_reply(reply, YES_NO) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("shows a man, so (c)", "C"),
        ("A smile", "D"),
        ("A smile.", "D"),
        ("I think that a smile is right", "D"),
        ("Wide eyes and a smile", "A"),
        ("I see wide eyes and a smile", None),
        ("(D) a smile", "D"),
        ("(D) a frown", None),
        ("a", "A"),
        ("i'd say no", None),
        ("Bad audio, cannot decide", None),
    ],
)
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


FRANK = [
    "<think>It could be (A) or (C).</think> B",
    "<thinking>(A)</thinking>\n\nB",
    "◁think▷(A)◁/think▷ (B)",
    "(A)? Or (C)? </think>B",
    "<think>a<think>(A)</think>(C)</think>B",
    "[THINK]A?[/THINK]B",
    "<|channel|>analysis<|message|>(A)?<|end|><|start|>assistant<|channel|>final<|message|>B",
    "<answer>B</answer>",
    "Option: B",
    "My answer would be B.",
    "**B**",
    "**Answer:** B",
    "> B",
    "- B",
    "\\boxed{B}",
    "$\\boxed{\\text{B}}$",
    "(A) or (C) might be, but my final answer is (B).",
    "Ｂ",
    "（Ｂ）",
    "Ⓑ",
    "【B】",
    "选B",
    "我选择B。",
    "选项B",
    "B选项",
    "答案是B",
    "答案：（B）",
    "不选A，选B",
    "正解はBです",
    "정답은 B입니다",
    "La respuesta es B",
    '{"answer": "B"}',
    '```json\n{"answer": "(B)", "reason": "(A) is worse"}\n```',
    "{'answer': 'B'}",
    "B\n\nThe frown shows it.",
    "Let me think about it.\n\nB",
    "B, because she frowns",
    "B is correct.",
    "I would choose B.",
    "The correct option is B",
    "(A) is wrong, so (B).",
    "The best choice is B.",
]
OPAQUE = [
    "<think>so it is B",
    "<think>B</think>",
    "A or B",
    "A/B",
    "not A",
    "Answer: A or B",
    "Answer: A, B",
    "选A或B",
    "不选B",
    "答案不是B",
    "My answer would not be B.",
    "The answer isn't B",
    "I don't think it is B",
    "B is not correct",
    "(A) is wrong",
    "A选项错误",
    "A man",
    "I say a man smiles",
    "Another option a man might choose",
    "B\nA",
    '{"answer": "A", "choice": "B"}',
    '{"answer": "A", "answer": "B"}',
    "<answer>A</answer><answer>B</answer>",
    "The options are A, B, C and D.",
    "Neither A nor B",
]


@pytest.mark.parametrize("reply", FRANK)
def test_other_ways_to_name_an_option(reply):
    assert parse_reply(reply, FOUR) == "B"


@pytest.mark.parametrize("reply", OPAQUE)
def test_replies_that_name_none_or_several(reply):
    assert parse_reply(reply, FOUR) is None


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("是", "A"),
        ("是的，他很高兴", "A"),
        ("对", "A"),
        ("否", "B"),
        ("不是", "B"),
        ("不对", "B"),
        ("不，他没有", "B"),
        ("答案：是", "A"),
        ("答案是否", "B"),
        ("はい", "A"),
        ("いいえ", "B"),
        ("Ｙｅｓ", "A"),
        ("The answer is yes.", "A"),
        ("<think>no</think>Yes", "A"),
        ('{"answer": "no"}', "B"),
        ('{"answer": true}', "A"),
        ("\\boxed{Yes}", "A"),
        ("是不是", None),
        ("不一定", None),
        ("对不起", None),
        ("是否", None),
        ("yes or no", None),
        ("B\nYes", None),
    ],
)
def test_yes_and_no_in_other_forms(reply, letter):
    assert parse_reply(reply, YES_NO) == letter


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("<think>angry or sad</think>Happy", "happiness"),
        ('{"emotion": "sad", "why": "not happy"}', "sadness"),
        ("高兴", "happiness"),
        ("他看起来很愤怒。", "anger"),
        ("ＨＡＰＰＹ", "happiness"),
        ("不高兴", None),
        ("悲伤和愤怒", None),
        ("<think>happy", None),
    ],
)
def test_labels_in_other_forms(reply, label):
    assert parse_label(reply, SEVEN) == label


def test_a_judge_may_think_first():
    rubric = load_rubric()
    grades = {name: value for each in rubric.names for name, value in ((each, 3), (f"{each}_reason", "so"))}
    assert rubric.read(f"<think>{{4?}}</think>\n```json\n{json.dumps(grades)}\n```") == grades


@given(st.sampled_from(FRANK + OPAQUE), st.text(alphabet="AC ()\n", max_size=20))
def test_thoughts_never_count(reply, thought):
    assert parse_reply(f"<think>{thought}</think>{reply}", FOUR) == parse_reply(reply, FOUR)
