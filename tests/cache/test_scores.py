"""Scores come back exactly, and only under the ingredients they were made of."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.cache import ScoreCache
from avem.errors import SettingError

FINGERPRINT = {"weights": "w1", "tokenizer": "t1", "prompt": "p1", "features": {"video": "v1", "audio": "a1"}}
KEYS = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1, max_size=8)


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1, max_size=8),
        st.floats(allow_nan=False, allow_infinity=False),
        max_size=8,
    )
)
def test_every_float_comes_back_exactly(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("scores")
    cache = ScoreCache(path, FINGERPRINT)
    cache.put(list(scores), scores.values())
    again = ScoreCache(path, FINGERPRINT)
    assert again.get(list(scores)).tolist() == list(scores.values())
    assert len(again) == len(scores)


@pytest.mark.parametrize("part", [("weights",), ("tokenizer",), ("prompt",), ("features", "audio")])
def test_any_other_ingredient_misses(tmp_path, part):
    ScoreCache(tmp_path, FINGERPRINT).put(["k"], [1.5])
    other = {**FINGERPRINT, "features": dict(FINGERPRINT["features"])}
    (other if len(part) == 1 else other[part[0]])[part[-1]] = "changed"
    assert np.isnan(ScoreCache(tmp_path, other).get(["k"])).all()
    assert ScoreCache(tmp_path, dict(reversed(FINGERPRINT.items()))).get(["k"]).tolist() == [1.5]


def test_a_torn_or_damaged_line_is_missing_and_can_be_added_again(tmp_path):
    cache = ScoreCache(tmp_path, FINGERPRINT)
    cache.put(["a", "b", "c"], [1.0, 2.0, 3.0])
    (path,) = cache.folder.glob("scores-*.tsv")
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"2.0", b"9.0")
    path.write_bytes(b"\n".join(lines)[:-4])
    again = ScoreCache(tmp_path, FINGERPRINT)
    assert [math.isnan(value) for value in again.get(["a", "b", "c"])] == [False, True, True]
    again.put(["b", "c"], [2.0, 3.0])
    assert ScoreCache(tmp_path, FINGERPRINT).get(["a", "b", "c"]).tolist() == [1.0, 2.0, 3.0]


def test_several_at_once(tmp_path):
    caches = [ScoreCache(tmp_path, FINGERPRINT) for _ in range(2)]

    def add(number):
        for item in range(20):
            caches[number % 2].put([f"{number}/{item}"], [number + item / 100])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ScoreCache(tmp_path, FINGERPRINT)) == 80


def test_refuses_what_is_no_score(tmp_path):
    cache = ScoreCache(tmp_path, FINGERPRINT)
    for keys, values, message in (
        (["a"], [1.0, 2.0], "1 keys came with 2"),
        (["a"], [math.nan], "finite"),
        (["a"], [-math.inf], "finite"),
        (["a\nb"], [1.0], "line break"),
    ):
        with pytest.raises(SettingError, match=message):
            cache.put(keys, values)
    assert len(ScoreCache(tmp_path, FINGERPRINT)) == 0
    with pytest.raises(SettingError, match="empty"):
        ScoreCache(tmp_path, {})
    with pytest.raises(SettingError, match="JSON"):
        ScoreCache(tmp_path, {"weights": object()})
