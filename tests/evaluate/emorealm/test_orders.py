"""Answer orders: every option stands at every letter once, and a liking for a letter cancels out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.errors import SettingError
from avem.evaluate.bench import bench_emorealm
from avem.evaluate.emorealm.orders import in_file_order, letter_in_file, mean_logprobs, reordered, rotations
from avem.evaluate.emorealm.questions import option_text
from avem.records import Question

FOUR = Question("q", "c.mp4", "reasoning_basic_audio", "Which?", ("(A) a", "(B) b", "(C) c", "(D) d"), "C")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_each_option_stands_once_at_each_letter(count):
    orders = rotations(count)
    assert orders[0] == tuple(range(count))
    assert all(sorted(column) == list(range(count)) for column in zip(*orders, strict=True))


def test_the_answer_moves_with_its_option():
    for order in rotations(4):
        shown = reordered(FOUR, order)
        assert option_text(shown.choices["ABCD".index(shown.answer)]) == "c"
        assert letter_in_file(shown.answer, order, FOUR) == "C"
    assert letter_in_file(None, rotations(4)[1], FOUR) is None


@given(st.lists(st.floats(-4, 4), min_size=4, max_size=4), st.lists(st.floats(-4, 4), min_size=4, max_size=4))
def test_a_liking_for_letters_cancels_out(own, letter):
    """An option's number is what the model thinks of it plus what it thinks of the letter it stands at."""
    shown = [[own[number] + letter[place] for place, number in enumerate(order)] for order in rotations(4)]
    put_back = [in_file_order(values, order) for values, order in zip(shown, rotations(4), strict=True)]
    mean = mean_logprobs(put_back)
    assert [mean[0] - value for value in mean] == pytest.approx([own[0] - value for value in own], abs=1e-9)


class LikesA:
    """Wraps the fake model: it gives the letter A five nats more than its clip deserves."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def eval(self):
        return self

    def response_logprobs(self, sequences):
        import torch

        self.model.calls.append(("logprobs", list(sequences)))
        texts = {
            letter: item.question.partition(f"({letter}) ")[2].split(" (")[0] for item in sequences for letter in "AB"
        }
        assert texts
        values = []
        for item in sequences:
            text = item.question.partition(f"({item.answer}) ")[2].split(" (")[0]
            values.append((1.0 if text == "No" else 0.0) + (5.0 if item.answer == "A" else 0.0))
        return torch.tensor(values, dtype=torch.float64)


def test_a_model_that_likes_a_letter_is_seen_through(fake_model, fake_store, tmp_path):
    asked = [
        Question(str(n), f"clips/c{n}.mp4", "modality_agreement", "Do they agree?", ("(A) Yes", "(B) No"), "B")
        for n in range(2)
    ]
    plain = bench_emorealm(
        LikesA(fake_model()), fake_store, asked, out_dir=tmp_path / "a", generate=False, text_only=False, resamples=0
    )
    assert [item.letter("likelihood") for item in plain.items] == ["A", "A"]
    model = LikesA(fake_model())
    permuted = bench_emorealm(
        model,
        fake_store,
        asked,
        out_dir=tmp_path / "b",
        generate=False,
        text_only=False,
        permute=True,
        resamples=0,
    )
    assert [item.letter("likelihood") for item in permuted.items] == ["B", "B"]
    assert [len(item.orders) for item in permuted.items] == [2, 2]
    assert {item.question for _, items in model.calls for item in items} == {
        "Do they agree? (A) Yes (B) No",
        "Do they agree? (A) No (B) Yes",
    }


def test_written_answers_are_counted_over_orders(fake_model, fake_store, questions, tmp_path):
    """The fake writes "(B) it is" in every order: of two options each is named once, and the file's order decides."""
    chosen = [question for question in questions if question.id == "q1-0"]
    result = bench_emorealm(fake_model(), fake_store, chosen, out_dir=tmp_path, permute=True, resamples=0)
    assert result.items[0].reply_letter == "B"


def test_no_options_no_orders(fake_model, fake_store, questions, tmp_path):
    with pytest.raises(SettingError, match="--permute has no effect with --style cloze"):
        bench_emorealm(fake_model(), fake_store, questions, style="cloze", out_dir=tmp_path, permute=True)
