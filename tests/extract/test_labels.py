"""Labels: corrected ones reach the store, stale negatives are refused, and none that is not understood vanishes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avem.cache import FeatureStore, StoreWriter, match_all, mine_negatives, store_info
from avem.cache.disk import layout
from avem.cache.negatives.labels import read_modality_labels
from avem.cache.negatives.mine import ensure_negatives
from avem.cache.negatives.staleness import DIGEST, StaleNegativesError, labels_digest
from avem.cli import app
from avem.emotions import nearest_words, parse_emotion
from avem.extract import ExtractOptions, extract
from avem.records import Emotion

ROWS = {  # id: emotion, split, source
    "a": ("happy", "train", "s1"),
    "b": ("sad", "train", "s2"),
    "c": ("angry", "train", "s3"),
    "d": ("sad", "test", "s4"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_clip):
    root = tmp_path_factory.mktemp("clips")
    for index, name in enumerate(ROWS):
        make_clip(root / f"{name}.mp4", frames=4, sound_s=0.5, seed=index)
    return root


@pytest.fixture
def root(clips, tmp_path):
    """A dataset of the four clips whose table a test may edit."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in clips.glob("*.mp4"):
        (folder / path.name).hardlink_to(path)
    write_table(folder, ROWS)
    return folder


@pytest.fixture
def run(root, tmp_path, encoders):
    return lambda **more: extract(root, tmp_path / "store", ExtractOptions(**encoders, workers=1, **more))


def write_table(folder: Path, rows: dict[str, tuple[str, str, str]]) -> None:
    lines = [f"{name}.mp4,{name},{','.join(cells)}" for name, cells in rows.items()]
    (folder / "clips.csv").write_text("\n".join(["path,clip_id,emotion,split,source", *lines]) + "\n")


def labels_of(store: Path) -> dict[str, tuple[str, str, str]]:
    table = FeatureStore.open(store).clips
    names = ("clip_id", "emotion", "split", "source")
    return {cells[0]: cells[1:] for cells in zip(*(table[name].to_pylist() for name in names), strict=True)}


@pytest.mark.parametrize(
    ("clip", "cells"),
    [
        ("a", ("sad", "train", "s1")),
        ("a", ("happy", "test", "s1")),
        ("a", ("happy", "train", "s2")),
        ("a", ("", "train", "s1")),
    ],
)
def test_a_correction_reaches_the_store_and_makes_negatives_stale(root, run, tmp_path, clip, cells):
    run()
    store = FeatureStore.open(tmp_path / "store")
    mine_negatives(store, k=1)
    match_all(store)
    write_table(root, {**ROWS, clip: cells})
    report = run()
    assert report.relabelled == 1
    assert "1 label changed" in report.summary
    assert "stale (hard, mutual)" in report.summary
    assert "nothing to do" not in report.summary
    emotion = parse_emotion(cells[0])
    assert labels_of(tmp_path / "store")[clip] == (emotion and str(emotion), *cells[1:])
    store.refresh()
    for recipe in ("hard", "mutual"):
        with pytest.raises(StaleNegativesError, match=f"avem cache negatives --recipe {recipe}"):
            store.negatives(recipe, "video")
    with pytest.raises(StaleNegativesError):  # which is what training calls
        ensure_negatives(store, "hard")
    assert all(mined["stale"] for mined in store_info(store).negatives)
    shown = CliRunner().invoke(app, ["cache", "info", "--cache", str(tmp_path / "store")])
    assert shown.output.count("stale") == 6
    mine_negatives(store, k=1)
    store.negatives("hard", "video")
    assert store.verify() == []
    assert run().relabelled == 0  # the second time there is nothing to correct


def test_three_labels_are_counted_and_a_dry_run_changes_none(root, run, tmp_path):
    run()
    write_table(root, {**ROWS, **{name: ("fear", *ROWS[name][1:]) for name in "abc"}})
    before = labels_of(tmp_path / "store")
    assert "3 labels to change" in run(dry_run=True).summary
    assert labels_of(tmp_path / "store") == before
    assert "3 labels changed." in run().summary
    assert {label for label, _, _ in labels_of(tmp_path / "store").values()} == {"fear", "sadness"}


def test_a_label_is_corrected_though_its_file_is_gone(root, run, tmp_path):
    run()
    (root / "a.mp4").unlink()
    write_table(root, {**ROWS, "a": ("fear", "train", "s1")})
    assert run().relabelled == 1
    assert labels_of(tmp_path / "store")["a"][0] == "fear"


def test_another_word_for_the_same_label_makes_nothing_stale(root, run, tmp_path):
    run()
    store = FeatureStore.open(tmp_path / "store")
    mine_negatives(store, k=1)
    write_table(root, {**ROWS, "a": ("joyful", "train", "s1")})
    report = run()
    assert report.relabelled == 1
    assert "stale" not in report.summary
    store.refresh()
    store.negatives("hard", "video")


def test_negatives_from_before_digests_work_until_labels_change(root, run, tmp_path):
    run()
    store = FeatureStore.open(tmp_path / "store")
    mine_negatives(store, k=1)
    for path in (tmp_path / "store" / "negatives").glob("*/*/zarr.json"):
        metadata = json.loads(path.read_text())
        del metadata["attributes"]["avem"][DIGEST]
        layout.write_metadata(path.parent, metadata)
    store.refresh()
    store.negatives("hard", "audio")
    write_table(root, {**ROWS, "a": ("fear", "train", "s1")})
    run()
    store.refresh()
    with pytest.raises(StaleNegativesError):
        store.negatives("hard", "audio")


def test_relabelling_keeps_features_and_other_clips(root, run, tmp_path):
    run()
    store = FeatureStore.open(tmp_path / "store")
    features, statuses = store.video([0, 3]), store.clips["video_status"].to_pylist()
    write_table(root, {**ROWS, "b": ("fear", "train", "s2")})
    run()
    store.refresh()
    assert (store.video([0, 3]) == features).all()
    assert store.clips["video_status"].to_pylist() == statuses
    assert {name: cells for name, cells in labels_of(tmp_path / "store").items() if name != "b"} == {
        "a": ("happiness", "train", "s1"),
        "c": ("anger", "train", "s3"),
        "d": ("sadness", "test", "s4"),
    }


def test_the_digest_sees_labels_and_their_order_and_nothing_else(root, run, tmp_path):
    run()
    columns = {
        name: FeatureStore.open(tmp_path / "store").clips[name].to_pylist()
        for name in ("clip_id", "dataset", "split", "source", "emotion", "emotions_raw", "path")
    }
    digest = labels_digest(columns)
    assert digest == labels_digest(FeatureStore.open(tmp_path / "store").clips)
    for name in ("dataset", "split", "source", "emotion"):
        assert labels_digest({**columns, name: [*columns[name][:3], "x"]}) != digest
        assert labels_digest({**columns, name: [None, *columns[name][1:]]}) != digest
    assert labels_digest({**columns, "path": ["x"] * 4, "emotions_raw": ["y"] * 4}) == digest


UNDERSTOOD = {
    "Happy": "happiness",
    " JOY ": "happiness",
    "rage": "anger",
    "furious": "anger",
    "mad": "anger",
    "Sad": "sadness",
    "sorrow": "sadness",
    "Surprised": "surprise",
    "amazed": "surprise",
    "terrified": "fear",
    "afraid": "fear",
    "disgusted": "disgust",
    "neutral": "neutral",
}
NEAR = {
    "suprise": ["surprise"],
    "Happpy": ["happy"],
    "happy/sad": ["happy", "sad"],
    "angery": ["angry"],
    "disgsut": ["disgust"],
    "nuetral": ["neutral"],
    "01_feer": ["fear"],
    "sadnes": ["sadness"],
    "Ärger": ["anger"],
    "A\u0308rger": ["anger"],
    "traurig, ängstlich": ["sadness", "fear"],
    "高兴": ["happiness"],
    "wuetend": ["anger"],
    "Ueberrascht": ["surprise"],
    "COLERE": ["anger"],
}
FAR = ["contempt", "worried", "calm", "other", "xyzzy", "42", "-", "😀", "\x1b[31m"]


def test_the_lexicon():
    assert {label: str(parse_emotion(label)) for label in UNDERSTOOD} == UNDERSTOOD
    assert all(parse_emotion(str(emotion)) is emotion for emotion in Emotion)
    assert {label: nearest_words(label) for label in NEAR} == NEAR
    assert [nearest_words(label) for label in FAR] == [[]] * len(FAR)
    assert not any(parse_emotion(label) for label in [*NEAR, *FAR])
    assert all(parse_emotion(word) for words in NEAR.values() for word in words)


def test_labels_that_are_not_understood_are_named_and_counted(root, run, tmp_path):
    write_table(
        root,
        {
            "a": ("suprise", "train", ""),
            "b": ("happy/sad", "train", ""),
            "c": ("suprise", "train", ""),
            "d": ("", "test", ""),
        },
    )
    report = run()
    assert "3 clips have a label that is none of the seven emotions" in report.summary
    assert "'suprise' (2 clips; did you mean surprise?)" in report.summary
    assert "'happy/sad' (1 clip; did you mean happy or sad?)" in report.summary
    assert "1 clip has no label" in report.summary
    assert report.failures == []  # nothing failed, so the status stays 0, and nothing is silent
    shown = CliRunner().invoke(app, ["cache", "info", "--cache", str(tmp_path / "store")]).output
    assert "2 'suprise'" in shown
    assert "1 clip has no label." in shown
    assert "splits: 3 train, 1 test" in shown


def test_folders_that_are_no_emotion_are_named(tmp_path, make_clip, encoders):
    root = tmp_path / "data"
    for name in ("happiness", "suprise", "holiday"):
        make_clip(root / name / "1.mp4", frames=4, sound_s=0.5)
    report = extract(root, tmp_path / "store", ExtractOptions(**encoders, workers=1))
    assert report.clips == 1
    assert "holiday/ (1 video), suprise/ (1 video; did you mean surprise?)" in report.summary


def listed(store: Path, *options: str) -> list[dict[str, str]]:
    result = CliRunner().invoke(app, ["cache", "list", "--cache", str(store), "--format", "csv", *options])
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.output)))


def test_listing_clips(root, run, tmp_path):
    write_table(root, {**ROWS, "c": ("contempt", "train", "s3"), "e": ("fear", "train", "s5")})
    (root / "e.mp4").write_bytes(b"no video")
    run()
    store = tmp_path / "store"
    assert [row["clip_id"] for row in listed(store)] == ["a", "b", "c", "d", "e"]
    for option, ids in {
        ("--label", "sadness"): "bd",
        ("--label", "HAPPY"): "a",
        ("--label", "none"): "c",
        ("--label", "contempt"): "c",
        ("--split", "test"): "d",
        ("--status", "failed"): "e",
        ("--status", "ok"): "abcd",
        ("--status", "pending"): "",
        ("--dataset", "data"): "abcde",
        ("--dataset", "other"): "",
        ("--text", "E.MP4"): "e",
        ("--text", "CONTEM"): "c",
    }.items():
        assert "".join(row["clip_id"] for row in listed(store, *option)) == ids, option
    assert "".join(row["clip_id"] for row in listed(store, "--label", "sad", "--split", "train")) == "b"
    result = CliRunner().invoke(app, ["cache", "list", "--cache", str(store), "--format", "json"])
    assert json.loads(result.output) == listed(store)
    table = CliRunner().invoke(app, ["cache", "list", "--cache", str(store)]).output
    assert "5 of 5 clips." in table
    assert "(contempt)" in table
    assert "video failed, audio failed" in table
    assert max(map(len, table.splitlines())) <= 80


def test_a_wrong_status_is_a_sentence(root, run, tmp_path):
    run()
    result = CliRunner().invoke(app, ["cache", "list", "--cache", str(tmp_path / "store"), "--status", "good"])
    assert "--status takes ok, failed, pending, not 'good'" in str(result.exception)


def test_long_names_fit_a_terminal(tmp_path, monkeypatch):
    from tests.cache.helpers import clip_records

    writer = StoreWriter.open(tmp_path / "store")
    long = clip_records(1, dataset="a-dataset-with-a-name-that-is-long/" + "folder/" * 30)
    writer.add_clips([*long, *clip_records(1)], tmp_path)
    monkeypatch.setattr("avem.text.terminal.table_width", lambda: 80)
    table = CliRunner().invoke(app, ["cache", "list", "--cache", str(tmp_path / "store")]).output
    assert max(map(len, table.splitlines())) <= 80
    assert "toy/000" in table


def test_labels_of_each_modality_still_work_after_a_correction(root, run, tmp_path):
    run()
    (tmp_path / "labels.csv").write_text("clip_id,video,audio\na,happiness,anger\nb,sadness,fear\nc,anger,anger\n")
    labels = read_modality_labels(tmp_path / "labels.csv")
    store = FeatureStore.open(tmp_path / "store")
    mine_negatives(store, k=1, labels=labels)
    write_table(root, {**ROWS, "a": ("happy", "test", "s1")})
    run()
    with pytest.raises(StaleNegativesError):
        ensure_negatives(FeatureStore.open(tmp_path / "store"), "hard")
    mine_negatives(store, k=1, labels=labels)
    ensure_negatives(store, "hard")


def test_a_folder_without_its_table_takes_no_label_away(root, run, tmp_path, encoders):
    (root / "clips.csv").rename(root / "labels of 2026.csv")
    table = root / "labels of 2026.csv"
    table.write_text("path,emotion,source\n" + "".join(f"{name}.mp4,{row[0]},{row[2]}\n" for name, row in ROWS.items()))
    extract(table, tmp_path / "store", ExtractOptions(**encoders, workers=1))
    before = labels_of(tmp_path / "store")
    assert {label for label, _, _ in before.values()} == {"happiness", "sadness", "anger"}
    report = run()
    assert report.relabelled == 0
    assert f"{root} gives no labels; the 4 that the store has stay." in report.summary
    assert "have no label" not in report.summary
    assert labels_of(tmp_path / "store") == before
    table.write_text("path,emotion,source\n" + "".join(f"{name}.mp4,fear,{row[2]}\n" for name, row in ROWS.items()))
    extract(table, tmp_path / "store", ExtractOptions(**encoders, workers=1))
    assert {label for label, _, _ in labels_of(tmp_path / "store").values()} == {"fear"}
