"""Balancing: as many yes as no whatever comes in, subtasks side by side, emotions as in the source."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from avem.tools.prefs.steps.balance import emotions_as_in_source, even_verdicts

KINDS = {True: ("present",), False: ("spurious", "hallucinated")}
ITEMS = st.lists(
    st.sampled_from([(task, yes, kind) for task in "ab" for yes in (True, False) for kind in KINDS[yes]]), max_size=40
)


@given(ITEMS, st.integers(0, 3))
@settings(max_examples=60)
def test_every_task_ends_with_as_many_yes_as_no_and_subtasks_within_one(kinds, seed):
    items = [(*item, number) for number, item in enumerate(kinds)] + [("c", None, "", 99)]
    kept = even_verdicts(items, lambda i: i[1], lambda i: i[0], seed, lambda i: i[2])
    assert kept == sorted(kept, key=lambda item: item[3])
    assert ("c", None, "", 99) in kept
    for task in "ab":
        here = Counter((yes, kind) for name, yes, kind, _ in kept if name == task)
        there = Counter((yes, kind) for name, yes, kind, _ in items if name == task)
        assert here[True, "present"] == here[False, "spurious"] + here[False, "hallucinated"]
        if there[False, "spurious"] and there[False, "hallucinated"]:
            assert abs(here[False, "spurious"] - here[False, "hallucinated"]) <= 1
            least = min(there[False, "spurious"], there[False, "hallucinated"])
            assert sum(here.values()) >= 2 * min(there[True, "present"], 2 * least)


def test_the_same_seed_keeps_the_same_and_another_not():
    items = [(n % 3 == 0, n) for n in range(90)]
    kept = [even_verdicts(items, lambda i: i[0], lambda _: "t", seed) for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert len(kept[0]) == 60


def test_emotions_follow_the_source_within_the_tolerance():
    source = ["joy"] * 60 + ["fear"] * 30 + ["rage"] * 10
    left = {f"joy{n}": "joy" for n in range(30)} | {f"fear{n}": "fear" for n in range(30)} | {"rage0": "rage"}
    strict = Counter(left[clip] for clip in emotions_as_in_source(left, source, 0.0, 0))
    assert strict == {"joy": 6, "fear": 3, "rage": 1}
    loose = Counter(left[clip] for clip in emotions_as_in_source(left, source, 0.1, 0))
    shares = {label: count / loose.total() for label, count in loose.items()}
    assert sum(abs(shares[label] - share) for label, share in (("joy", 0.6), ("fear", 0.3), ("rage", 0.1))) / 2 <= 0.1
    assert loose.total() > 40
    assert emotions_as_in_source({}, source, 0.1, 0) == set()
    assert emotions_as_in_source({"rage0": "rage"}, source, 0.1, 0) == {"rage0"}
