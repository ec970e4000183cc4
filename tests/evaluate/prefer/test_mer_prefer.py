"""MER-Prefer: pairs from the published columns, both orders, numbers by hand, and the submission."""

import csv

import pytest

from avem.errors import DataError
from avem.evaluate.bench import answer_questions
from avem.evaluate.predict.clips import resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.prefer.pairs import read_pairs, submission
from avem.evaluate.prefer.runner import PreferResult, predicted, prefer_scores, prefer_sheet

TABLE = 'name,a1,a2,preference\nc0,"He is\ncalm.",He is sad.,a1\nc1,Glad.,Angry.,a2\nc2,Up.,Down.,same\n'


def test_published_columns(tmp_path):
    path = tmp_path / "track3_emoprefer.csv"
    path.write_text(TABLE)
    pairs = read_pairs(path)
    assert [pair.preference for pair in pairs] == ["a1", "a2", ""]
    first = pairs[0].question()
    assert first.choices == ("(A) He is calm.", "(B) He is sad.")
    assert (first.video, first.answer, pairs[1].question().answer) == ("c0.mp4", "A", "B")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,a1\nc,x\n", "has no column a2"),
        ("name,a1,a2,preference\nc,x,y,a3\n", "row 1 has the preference 'a3'"),
        ("name,a1,a2\nc,x,\n", "lacks a name or a description"),
        ("name,a1,a2\n", "holds no pairs"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_pairs(path)


class OrderBound:
    """Likes what is called A by 3 nats, and the description that says "sad" by 2; `prefer` of the second is hidden
    from a single order."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def response_logprobs(self, sequences):
        import torch

        values = []
        for item in sequences:
            letter = item.answer[0]
            _, _, options = item.question.partition("(A) ")
            first, _, second = options.partition(" (B) ")
            text = first if letter == "A" else second
            values.append(3.0 * (letter == "A") + 2.0 * ("sad" in text) - 10)
        return torch.tensor(values, dtype=torch.float64)


def test_both_orders_cancel_a_liking_for_a(tmp_path, fake_model, fake_store):
    path = tmp_path / "pairs.csv"
    path.write_text("name,a1,a2,preference\nc0,calm,sad,a2\nc1,sad,calm,a1\n")
    pairs = read_pairs(path)
    asked = [pair.question() for pair in pairs]
    predictor = FeaturePredictor(OrderBound(fake_model()), fake_store, "letters", 8)
    clips = resolve_clips(fake_store.clips, asked).with_media(predictor.has_media)
    both = answer_questions(predictor, asked, clips, ("likelihood",), tmp_path / "both", permute=True)
    one = answer_questions(predictor, asked, clips, ("likelihood",), tmp_path / "one")
    assert predicted(both, pairs, "likelihood") == {0: "a2", 1: "a1"}
    assert predicted(one, pairs, "likelihood") == {0: "a1", 1: "a1"}
    assert both[0].logprobs[1] - both[0].logprobs[0] == pytest.approx(2.0)


def test_weighted_f1_by_hand(tmp_path):
    """Three a1, of which two are found; one a2, found. F1 is 0.8 and 2/3, weighted 0.75 and 0.25."""
    path = tmp_path / "pairs.csv"
    path.write_text("name,a1,a2,preference\n" + "".join(f"c{n},x,y,{p}\n" for n, p in enumerate(["a1"] * 3 + ["a2"])))
    pairs = read_pairs(path)
    found = prefer_scores(pairs, {0: "a1", 1: "a1", 2: "a2", 3: "a2"}, resamples=0)
    assert found["weighted_f1"] == pytest.approx(100 * (0.75 * 0.8 + 0.25 * 2 / 3))
    assert found["war"] == 75.0
    sheet = prefer_sheet([PreferResult("m", {"likelihood": found}, {})])
    assert sheet.rows[0][:5] == ("m", "likelihood", "4", "76.67", "75.00")


def test_the_submission_keeps_the_table(tmp_path):
    path = tmp_path / "track3_candidate.csv"
    path.write_text('name,a1,a2,preference\nc0,"calm, at ease",sad,\nc0,glad,angry,\n')
    pairs = read_pairs(path)
    out = tmp_path / "submission.csv"
    out.write_text(submission(pairs, {0: "a2", 1: "a1"}))
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["preference"] for row in rows] == ["a2", "a1"]
    assert rows[0]["a1"] == "calm, at ease"
    assert [pair.preference for pair in read_pairs(out)] == ["a2", "a1"]
    with pytest.raises(DataError, match="1 of 2 pairs have no prediction"):
        submission(pairs, {0: "a2"})
