"""Identical clips are not mined as negatives of each other, and mining that finds none gives the reasons."""

import numpy as np
import pytest
from typer.testing import CliRunner

from avem.cache import mine_negatives
from avem.cache.negatives.population import load_population
from avem.cache.negatives.same import same_vectors
from avem.cache.negatives.summary import summarise_negatives
from avem.cli import app
from avem.errors import StoreError
from tests.cache.negatives.test_mine import angles, store_of

EMOTIONS = ("anger", "fear", "sadness", "happiness")


def labelled(count):
    return [(EMOTIONS[i % 4], "train", f"s{i}") for i in range(count)]


@pytest.mark.parametrize("recipe", ["hard", "random-emotion", "random-clip"])
@pytest.mark.parametrize(
    "vectors", [np.zeros((8, 2)), np.ones((8, 2)), np.ones((8, 2)) + np.arange(16).reshape(8, 2) * 1e-8]
)
def test_copies_are_near_duplicates_whatever_is_given(tmp_path, vectors, recipe):
    store = store_of(tmp_path / "cache", labelled(8), video=vectors)
    for cosine in (None, 1.0, 1.1):
        with pytest.raises(StoreError, match="8 have only near-duplicates"):
            mine_negatives(store, recipe, duplicate_cosine=cosine)


def test_silent_clips_have_other_clips_as_negatives(tmp_path):
    vectors = np.concatenate([np.zeros((4, 2)), angles(0, 30, 60, 90)])
    store = store_of(tmp_path / "cache", labelled(8), video=vectors)
    mine_negatives(store, k=4, duplicate_cosine=1.0)
    found = store.negatives("hard", "video")
    assert {row for row in found[:4].ravel().tolist() if row >= 0} <= {4, 5, 6, 7}
    assert (found[:4] >= 0).any(axis=1).all()


def test_more_than_there_are(tmp_path):
    store_of(tmp_path / "cache", labelled(12), video=angles(*range(0, 120, 10)))
    done = CliRunner().invoke(app, ["cache", "negatives", "--cache", str(tmp_path / "cache"), "--k", "1000"])
    assert done.exit_code == 0
    assert "video: 0 of 12 clips have 11 negatives; 12 have fewer, at least 9." in done.output


def test_the_reasons_are_counted(tmp_path):
    clips = [
        ("anger", "train", "a"),
        ("anger", "train", "b"),
        ("fear", "test", "c"),
        ("anger", "test", "c"),
        (None, "train", ""),
    ]
    store_of(tmp_path / "cache", clips, video=angles(0, 30, 60, 90, 120))
    done = CliRunner().invoke(app, ["cache", "negatives", "--cache", str(tmp_path / "cache")])
    assert isinstance(done.exception, StoreError)
    for reason in (
        "1 have no label",
        "2 have no clip of another emotion",
        "2 have such clips only from their own speaker or source",
    ):
        assert reason in str(done.exception)
    assert not list((tmp_path / "cache").glob("negatives/*"))


def test_same_vectors_in_any_order():
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(200, 16)).astype(np.float32)
    distinct /= np.linalg.norm(distinct, axis=1, keepdims=True)
    of = rng.integers(0, 200, size=600)
    numbers = same_vectors(distinct[of] + rng.normal(size=(600, 16)).astype(np.float32) * 1e-8)
    for one in range(200):
        assert len(set(numbers[of == one].tolist())) <= 1
    assert len(set(numbers.tolist())) == len(set(of.tolist()))


ONE_SPEAKER = [(EMOTIONS[i % 4], "train", "actor") for i in range(8)]


def run(cache, *options):
    return CliRunner().invoke(app, ["cache", "negatives", "--cache", str(cache), *options])


def test_one_speaker_is_told_of_the_option_and_has_negatives_with_it(tmp_path):
    store = store_of(tmp_path / "cache", ONE_SPEAKER, video=angles(*range(0, 160, 20)))
    refused = str(run(tmp_path / "cache").exception)
    assert "8 have such clips only from their own speaker or source" in refused
    assert "`avem cache negatives --same-source` also takes" in refused
    assert refused.count("only from their own speaker or source") == 1, "one reason, said once for all modalities"
    done = run(tmp_path / "cache", "--same-source", "--k", "2")
    assert "video: 8 of 8 clips have 2 negatives." in done.output
    found = store.negatives("hard", "video")
    assert all(EMOTIONS[row % 4] != EMOTIONS[other % 4] for row in range(8) for other in found[row])
    leaks = summarise_negatives(store, "hard", "video").leaks
    assert not any(leaks.values())
    assert "the same speaker or source" not in leaks


def test_pairs_of_one_speaker(tmp_path):
    store = store_of(tmp_path / "cache", ONE_SPEAKER, video=angles(*range(0, 160, 20)))
    run(tmp_path / "cache", "--same-source", "--recipe", "mutual")
    assert (store.negatives("mutual", "video") >= 0).all()


def test_windows_of_one_clip_are_never_negatives_even_of_one_speaker(tmp_path):
    clips = [("anger", "train", "a"), ("fear", "train", "a"), ("sadness", "train", "a")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 30, 60))
    population = load_population(store, "video", same_source=True)
    assert len(set(population.sources.tolist())) == 3


def test_clips_without_a_negative_are_counted_by_reason(tmp_path):
    clips = [
        ("anger", "train", "a"),
        ("fear", "train", "b"),
        ("fear", "test", "c"),
        ("anger", "test", "c"),
        ("anger", "val", "d"),
        ("fear", "train", "e"),
    ]
    store_of(tmp_path / "cache", clips, video=angles(0, 90, 30, 60, 45, 90))
    said = run(tmp_path / "cache").output
    assert "1 have no clip of another emotion in their split" in said
    assert "2 have such clips only from their own speaker or source" in said
    assert "`--same-source`" in said


def test_training_says_why_a_clip_has_no_negative(tmp_path):
    from avem.records import Modality, PreferenceRow
    from avem.train.data.examples import _no_negative

    clips = [("anger", "train", "a"), ("fear", "train", "b"), ("fear", "test", "c"), ("anger", "test", "c")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 90, 30, 60))
    mine_negatives(store)
    row = PreferenceRow("r", "c2", Modality.VISUAL, "", "q", "a", "b", "c")
    said = _no_negative(store, row, "video", "hard")
    assert "2 have such clips only from their own speaker or source" in said
    assert "`avem cache negatives --same-source`" in said


def test_training_says_that_a_clip_has_no_label(tmp_path):
    from avem.records import Modality, PreferenceRow
    from avem.train.data.examples import _no_negative

    store = store_of(
        tmp_path / "cache",
        [("anger", "train", "a"), ("fear", "train", "b"), (None, "train", "c")],
        video=angles(0, 90, 30),
    )
    mine_negatives(store)
    row = PreferenceRow("r", "c2", Modality.VISUAL, "", "q", "a", "b", "c")
    assert "for want of a label: there is none; correct" in _no_negative(store, row, "video", "hard")
