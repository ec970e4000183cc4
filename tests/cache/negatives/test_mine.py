"""Mined negatives against brute force and by hand: other emotion, own split, no leak, no loop."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from avem.cache import (
    ClipRecord,
    FeatureStore,
    RowDetails,
    StoreWriter,
    StreamSpec,
    ensure_negatives,
    match_mutual,
    mine_negatives,
)
from avem.cache.negatives.labels import read_modality_labels
from avem.cache.negatives.population import load_population
from avem.cache.negatives.summary import summarise_negatives
from avem.cli import app
from avem.errors import DataError, MissingFileError, SettingError, StoreError

VIDEO = StreamSpec("video", "v", {"w": 1}, (1, 1, 2), 2)
AUDIO = StreamSpec("audio", "a", {"w": 1}, (1, 2), 2)


def store_of(path, clips, video=None, audio=None, failed_audio=(), dim=2):
    """A store whose pooled vectors are given: clips are (emotion, split, source)."""
    writer = StoreWriter.open(path)
    records = [
        ClipRecord(f"c{i}", "d", f"{i}.mp4", f"{i:064x}", emotion=emotion, split=split, source=source)
        for i, (emotion, split, source) in enumerate(clips)
    ]
    writer.add_clips(records, root=path)
    for spec, vectors, failed in ((VIDEO, video, ()), (AUDIO, audio, failed_audio)):
        if vectors is None:
            continue
        stream = writer.stream(replace(spec, pooled_dim=dim))
        vectors = np.asarray(vectors, dtype=np.float32)
        for shard in stream.pending():
            rows = list(shard.rows)
            details = [RowDetails("failed", "no audio") if row in failed else RowDetails() for row in rows]
            stream.write(shard, np.zeros((len(rows), *spec.row_shape), np.float32), vectors[rows], details)
    writer.finish()
    return FeatureStore.open(path)


def angles(*degrees):
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def test_by_hand(tmp_path):
    clips = [
        ("anger", "train", "s0"),
        ("fear", "train", "s0"),
        ("fear", "train", "s1"),
        ("anger", "train", "s2"),
        ("sadness", "train", "s3"),
        (None, "train", "s4"),
        ("fear", "test", "s5"),
        ("sadness", "test", "s6"),
    ]
    vectors = angles(0, 5, 20, 10, 40, 1, 2, 3)
    store = store_of(tmp_path / "cache", clips, video=vectors)
    (report,) = mine_negatives(store, k=2, duplicate_cosine=0.99999)
    assert store.negatives("hard", "video").tolist() == [
        [2, 4],  # 1 is nearer but of the same source, 3 has the same emotion, 5 has no label, 6 is in the test split
        [3, 4],
        [3, 0],
        [1, 2],
        [2, 3],
        [-1, -1],
        [7, -1],
        [6, -1],
    ]
    assert (report.clips, report.complete, report.without) == (7, 5, {})
    assert np.array_equal(store.negatives("hard", "visual"), store.negatives("hard", "video"))


def test_near_duplicates_are_left_out(tmp_path):
    clips = [("anger", "", ""), ("fear", "", ""), ("fear", "", ""), ("sadness", "", "")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 0.5, 60, 180))
    mine_negatives(store, k=1)
    assert store.negatives("hard", "video").tolist() == [[2], [3], [0], [2]]
    mine_negatives(store, k=1, duplicate_cosine=1.0)
    assert store.negatives("hard", "video")[:2].tolist() == [[1], [0]]


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("modality", ["video", "audio", "audiovisual"])
def test_hard_negatives_equal_brute_force(tmp_path, modality, crowded):
    rng = np.random.default_rng(3)
    count, dim, k = 160, 6, 5
    sources = 3 if crowded else 40
    clips = [
        (
            ["anger", "fear", "neutral", None][rng.integers(4)],
            ["train", "test"][rng.integers(2)],
            f"s{rng.integers(sources)}",
        )
        for _ in range(count)
    ]
    if crowded:  # one source fills every neighbourhood, so that the first neighbours never suffice
        clips = [(emotion, split, "s0" if i % 10 else source) for i, (emotion, split, source) in enumerate(clips)]
    video, audio = rng.normal(size=(2, count, dim))
    failed = {3, 50, 51}
    store = store_of(tmp_path / "cache", clips, video, audio, failed, dim)
    mine_negatives(store, k=k)
    parts = [store.pooled(kind) for kind in ("video", "audio") if modality in (kind, "audiovisual")]
    vectors = np.concatenate(parts, axis=1) / np.sqrt(len(parts))
    limit = load_population(store, modality).duplicate_cosine
    usable = [row for row in range(count) if modality == "video" or row not in failed]
    found = store.negatives("hard", modality)
    for row in range(count):
        scores = {
            other: float(vectors[row] @ vectors[other])
            for other in usable
            if row in usable
            and None not in (clips[row][0], clips[other][0])
            and clips[row][0] != clips[other][0]
            and clips[row][1] == clips[other][1]
            and clips[row][2] != clips[other][2]
        }
        best = sorted((other for other in scores if scores[other] <= limit), key=lambda other: -scores[other])[:k]
        assert found[row].tolist() == best + [-1] * (k - len(best))


@pytest.mark.parametrize("recipe", ["random-emotion", "random-clip"])
def test_random_negatives_are_allowed_distinct_and_from_the_seed(tmp_path, recipe):
    rng = np.random.default_rng(0)
    clips = [(["anger", "fear", None][i % 3], ["train", "test"][i % 2], f"s{i % 7}") for i in range(60)]
    store = store_of(tmp_path / "cache", clips, video=rng.normal(size=(60, 2)))
    limit = load_population(store, "video").duplicate_cosine
    vectors = store.pooled("video")
    mine_negatives(store, recipe, k=3, seed=5)
    found = store.negatives(recipe, "video")
    for row, others in enumerate(found.tolist()):
        emotion, split, source = clips[row]
        if recipe == "random-emotion" and emotion is None:
            assert others == [-1] * 3
            continue
        assert len(set(others)) == 3
        for other in others:
            assert clips[other][1] == split
            assert clips[other][2] != source
            assert vectors[row] @ vectors[other] <= limit
            assert recipe == "random-clip" or clips[other][0] not in (None, emotion)
    mine_negatives(store, recipe, k=3, seed=5)
    assert np.array_equal(store.negatives(recipe, "video"), found)
    mine_negatives(store, recipe, k=3, seed=6)
    assert not np.array_equal(store.negatives(recipe, "video"), found)


def test_every_allowed_clip_is_drawn_about_as_often(tmp_path):
    clips = [("anger", "", "")] * 300 + [("fear", "", "")] * 6
    store = store_of(tmp_path / "cache", clips, video=np.random.default_rng(1).normal(size=(306, 2)))
    mine_negatives(store, "random-emotion", k=1, duplicate_cosine=1.1)
    counts = np.bincount(store.negatives("random-emotion", "video")[:300, 0] - 300, minlength=6)
    assert counts.sum() == 300
    assert counts.min() > 25


def test_clips_without_any_possible_negative_are_reported(tmp_path):
    clips = [("anger", "train", ""), ("anger", "train", ""), ("fear", "test", "")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 90, 180))
    for recipe in ("hard", "random-emotion"):
        with pytest.raises(StoreError, match=r"None of the 3 clips .*3 have no clip of another emotion in their split"):
            mine_negatives(store, recipe, k=2)
        with pytest.raises(StoreError, match=r"no .* negatives for video"):
            store.negatives(recipe, "video")  # nothing was kept


def test_an_emotion_with_a_single_clip(tmp_path):
    clips = [("anger", "", ""), ("fear", "", ""), ("fear", "", "")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 30, 90))
    (report,) = mine_negatives(store, k=2)
    assert store.negatives("hard", "video").tolist() == [[1, 2], [0, -1], [0, -1]]
    assert report.complete == 1


def test_opposite_valence_can_be_asked_for(tmp_path):
    clips = [("anger", "", ""), ("fear", "", ""), ("happiness", "", ""), ("neutral", "", "")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 10, 80, 90))
    mine_negatives(store, k=1, min_emotion_distance=3)
    assert store.negatives("hard", "video").tolist() == [[2], [2], [1], [-1]]


def test_the_inverted_file_finds_nearly_the_same(tmp_path):
    rng = np.random.default_rng(2)
    clips = [(["anger", "fear"][i % 2], "", "") for i in range(1200)]
    store = store_of(tmp_path / "cache", clips, video=rng.normal(size=(1200, 8)), dim=8)
    mine_negatives(store, k=3)
    exact = store.negatives("hard", "video")
    (report,) = mine_negatives(store, k=3, exact_up_to=100)
    assert 0.95 <= report.recall <= 1.0
    assert (store.negatives("hard", "video") == exact).mean() > 0.9


def test_the_array_says_how_it_was_made(tmp_path):
    store = store_of(tmp_path / "cache", [("anger", "", ""), ("fear", "", "")], video=angles(0, 90))
    mine_negatives(store, "random-emotion", k=2, seed=11)
    array = zarr.open(str(tmp_path / "cache"), mode="r")["negatives/random-emotion/video"]
    assert array.dtype == np.int32
    assert array.attrs["avem"]["seed"] == 11
    assert array.attrs["avem"]["recipe"] == "random-emotion"


@pytest.mark.parametrize(
    ("content", "says"), [("{", "is damaged"), ("[]", "is damaged"), ('{"attributes": 1}', "mine them again")]
)
def test_damaged_metadata_is_said_in_a_sentence(tmp_path, content, says):
    store = store_of(tmp_path / "cache", [("anger", "", ""), ("fear", "", "")], video=angles(0, 90))
    mine_negatives(store)
    (tmp_path / "cache/negatives/hard/video/zarr.json").write_text(content)
    with pytest.raises(StoreError, match=says):
        summarise_negatives(store, "hard", "video")


def test_negatives_of_a_store_that_has_grown_are_refused(tmp_path):
    store = store_of(tmp_path / "cache", [("anger", "", ""), ("fear", "", "")], video=angles(0, 90))
    mine_negatives(store)
    StoreWriter.open(tmp_path / "cache").add_clips([ClipRecord("new", "d", "n.mp4", "n")], root=tmp_path)
    store.refresh()
    with pytest.raises(StoreError, match="mined for 2 clips and it now holds 3"):
        store.negatives("hard", "video")
    with pytest.raises(SettingError, match="made while training"):
        mine_negatives(store, "diffused")
    with pytest.raises(SettingError, match="random-clip"):  # the sentence lists the recipes there are
        mine_negatives(store, "nearest")
    with pytest.raises(StoreError, match="no features"):
        mine_negatives(FeatureStore.open(StoreWriter.open(tmp_path / "empty").path))


def test_mutual_pairs_are_each_others_negatives(tmp_path):
    rng = np.random.default_rng(4)
    clips = [
        (["anger", "fear", "neutral", None][rng.integers(4)], ["train", "test"][i % 2], f"s{i % 9}") for i in range(81)
    ]
    store = store_of(tmp_path / "cache", clips, *rng.normal(size=(2, 81, 4)), dim=4)
    mine_negatives(store, k=4)
    pairs = match_mutual(store, "hard", "audiovisual")
    assert pairs.shape == (81, 1)
    assert np.array_equal(store.negatives("mutual", "audiovisual"), pairs)
    partners = pairs[:, 0]
    for row in np.flatnonzero(partners >= 0):
        other = partners[row]
        assert partners[other] == row
        assert clips[row][0] not in (None, clips[other][0])
        assert clips[row][1] == clips[other][1]
        assert clips[row][2] != clips[other][2]
    labelled = [row for row in range(81) if clips[row][0] is not None]
    assert sum(partners[row] < 0 for row in labelled) <= 4
    assert all(partners[row] < 0 for row in range(81) if row not in labelled)
    assert np.array_equal(match_mutual(store, "hard", "audiovisual"), pairs)


def test_mutual_pairs_take_mutual_first_choices(tmp_path):
    clips = [("anger", "", ""), ("fear", "", ""), ("anger", "", ""), ("fear", "", "")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 40, 100, 150))
    mine_negatives(store, k=2)
    assert match_mutual(store, "hard", "video").tolist() == [[1], [0], [3], [2]]


SHOWN = {
    "video": {"c0": "anger", "c1": "anger", "c2": "fear", "c3": "fear"},
    "audio": {"c0": "sadness", "c1": "fear", "c2": "sadness", "c3": "fear"},
}
"""Face and voice of four clips whose label is now the one, now the other."""


def labelled_twice(path):
    clips = [(label, "", "") for label in ("anger", "fear", "sadness", "fear")]
    return store_of(path, clips, video=angles(0, 10, 30, 60), audio=angles(0, 10, 30, 60))


def test_a_modality_has_labels_of_its_own(tmp_path):
    store = labelled_twice(tmp_path / "cache")
    mine_negatives(store, k=1)
    assert store.negatives("hard", "video")[0].tolist() == [1]  # another label, though both faces show anger
    mine_negatives(store, k=1, labels=SHOWN)
    assert store.negatives("hard", "video").tolist() == [[2], [2], [1], [1]]
    assert store.negatives("hard", "audio").tolist() == [[1], [0], [1], [2]]
    assert store.negatives("hard", "audiovisual").tolist() == [[3], [2], [1], [0]]  # both have to differ
    assert match_mutual(store, "hard", "audiovisual", labels=SHOWN).tolist() == [[3], [2], [1], [0]]
    summary = summarise_negatives(store, "hard", "video", labels=SHOWN)
    assert summary.leaks["the same emotion"] == 0
    assert summarise_negatives(store, "hard", "video").leaks["the same emotion"] > 0


def test_labels_from_a_table(tmp_path):
    labelled_twice(tmp_path / "cache")
    table = tmp_path / "shown.csv"
    table.write_text("clip_id,video,audio\n" + "".join(f"c{i},{SHOWN['video'][f'c{i}']},\n" for i in range(4)))
    arguments = ["cache", "negatives", "--cache", str(tmp_path / "cache"), "--k", "1", "--labels", str(table)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "video: 4 of 4 clips have 1 negative." in done.output
    assert "audio: 0 of 0 clips" in done.output  # its cells are empty: no label, no negative
    table.write_text("clip,video\n")
    with pytest.raises(DataError, match="needs a column clip_id"):
        read_modality_labels(table)
    with pytest.raises(MissingFileError, match="no file"):
        read_modality_labels(tmp_path / "nowhere.csv")


def test_labels_of_a_modality_are_not_forgotten_when_clips_were_added(tmp_path):
    store = labelled_twice(tmp_path / "cache")
    ensure_negatives(store, "hard", labels=SHOWN)
    kept = store.negatives("hard", "video")
    ensure_negatives(store, "hard")  # as training does
    assert (store.negatives("hard", "video") == kept).all()
    StoreWriter.open(tmp_path / "cache").add_clips([ClipRecord("new", "d", "new.mp4", "f" * 64)], root=tmp_path)
    store.refresh()
    with pytest.raises(StoreError, match="avem cache negatives --labels"):
        ensure_negatives(store, "hard")
    ensure_negatives(store, "hard", labels=SHOWN)
    assert (store.negatives("hard", "video")[:4, 0] == kept[:, 0]).all()


def test_ensure_mines_once_and_again_when_clips_were_added(tmp_path):
    clips = [("anger", "train", "a"), ("fear", "train", "b"), ("sadness", "train", "c")]
    store = store_of(tmp_path / "cache", clips, video=angles(0, 40, 90))
    ensure_negatives(store, "hard")
    first = tmp_path / "cache" / "negatives" / "hard" / "video"
    made = first.stat().st_ino
    ensure_negatives(store, "hard")
    assert first.stat().st_ino == made
    StoreWriter.open(tmp_path / "cache").add_clips([ClipRecord("new", "d", "new.mp4", "f" * 64)], root=tmp_path)
    store.refresh()
    ensure_negatives(store, "hard")
    assert len(store.negatives("hard", "video")) == 4
    ensure_negatives(store, "a recipe of the user's own")
