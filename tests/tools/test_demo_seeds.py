"""The tables of several demos: what is averaged over seeds, and what is never pooled."""

import pytest

from avem.evaluate.emorealm.results import Item, score_items
from avem.records import Question
from avem.tools.demo.seeds import accuracy_lines, cue_lines

CHOICES = ("(A) Yes", "(B) No")
KINDS = ("no_hallucination", "spurious", "hallucinated")


def result(name, odds, text_only=0.0):
    """One clip a row of log-odds of Yes: of a cue that is there and fits, a spurious and a hallucinated one."""
    items = []
    for clip, row in enumerate(odds):
        for kind, value in zip(KINDS, row, strict=True):
            extra, answer = {"subtask": kind}, "A" if kind == KINDS[0] else "B"
            asked = Question(
                f"{clip}-{kind}", f"{clip}.mp4", "reasoning_stress_audio", "Is it?", CHOICES, answer, extra
            )
            items.append(Item(asked, logprobs=(value, 0.0), text_logprobs=(text_only, 0.0)))
    return score_items(items, name=name, resamples=0)


@pytest.fixture
def runs():
    """Two seeds; the second one's models say yes to everything, and tell cues apart as well as the first one's."""
    base = ((1.0, -1.0, 2.0), (2.0, -2.0, 1.0))
    trained = ((1.0, -1.0, -2.0), (2.0, -2.0, -1.0))
    up = [[[value + 9 for value in row] for row in rows] for rows in (base, trained)]
    return {
        "base": [result("base", base), result("base", up[0])],
        "avem-dpo": [result("avem-dpo", trained), result("avem-dpo", up[1])],
    }


def test_auc_is_a_mean_over_seeds_and_not_of_pooled_questions(runs):
    spurious, hallucinated = cue_lines(runs)
    assert spurious[:5] == ["Stress, audio, spurious", "50.0 / 50.0", "100.0", "100.0", "+0.0 [+0.0, +0.0]"]
    assert hallucinated[2:4] == ["50.0", "100.0"]  # 1 and 2 against 2 and 1: one win, two ties, one loss
    assert hallucinated[5] == "+50.0, +50.0"


def test_accuracies_on_yes_and_on_no_stand_apart(runs):
    spurious, hallucinated = accuracy_lines(runs)
    assert spurious == ["Stress, audio, spurious", "100.0 / 100.0", "+0.0, +0.0", "50.0 / 50.0", "+0.0, +0.0"]
    assert hallucinated[3:] == ["0.0 / 50.0", "+100.0, +0.0"]
