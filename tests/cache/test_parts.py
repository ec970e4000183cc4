"""A manifest of several parts, each of which is checked, repaired and rewritten by itself."""

from __future__ import annotations

import json
import os
import shutil

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from avem.cache import FeatureStore, RowDetails, StoreWriter
from avem.cache.disk import folding, layout, ledger
from avem.cache.disk.location import Location
from avem.cache.manifest import edit, ids, parts, view
from avem.cache.manifest.columns import new_rows, row_checks
from avem.cache.manifest.edit import ManifestEditor
from avem.cache.manifest.file import FileState, file_state
from avem.cli import app
from avem.errors import AvemError, StoreError, UnknownClipError
from avem.systems import lock_file
from tests.cache.helpers import audio_spec, clip_records, make_store, row_values, video_spec, write_pending

PART = 4
NAMES = ["clips.parquet", "clips-000001.parquet", "clips-000002.parquet"]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "ROWS_PER_PART", PART)
    for module in (ids, edit, view):
        monkeypatch.setattr(module, "INDEX_FROM", 2)


@pytest.fixture
def path(tmp_path, small_parts):
    make_store(tmp_path / "cache", clips=10)
    return tmp_path / "cache"


def manifest_files(path):
    return sorted(item.name for item in path.glob("clips*.parquet"))


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit | AvemError):
        raise done.exception
    return done.exception, done.output


def test_rows_are_divided_and_read_as_one(path, tmp_path):
    assert manifest_files(path) == sorted(NAMES)
    tables = [pq.read_table(path / name) for name in NAMES]
    assert [len(table) for table in tables] == [4, 4, 2]
    store = FeatureStore.open(path)
    assert store.clips["clip_id"].to_pylist() == [f"toy/{row:03d}" for row in range(10)]
    assert [row for table in tables for row in table["clip_id"].to_pylist()] == store.clips["clip_id"].to_pylist()
    assert store.clip(9)["clip_id"] == "toy/009"
    assert store.columns(["emotion", "clip_id"]).equals(store.clips.select(["emotion", "clip_id"]))
    assert store.rows(["toy/009", "toy/000", "toy/004", "toy/003"]).tolist() == [9, 0, 4, 3]
    assert store.available("audio").tolist() == [True] * 10
    assert (store.verify(), store.damaged_files()) == ([], [])
    with pytest.raises(UnknownClipError, match=r"'toy/010'.*10 clips"):
        store.rows(["toy/001", "toy/010"])
    with pytest.raises(UnknownClipError, match="no row 10"):
        store.clip(10)


def test_a_check_covers_the_row_number_in_the_whole_manifest(path):
    table = FeatureStore.open(path).clips
    assert table["check"].to_pylist() == row_checks(table, np.arange(10)).tolist()
    assert pq.read_table(path / NAMES[1])["check"].to_pylist() == row_checks(table, np.arange(10)).tolist()[4:8]


def test_only_touched_parts_are_written(path):
    before = {name: (path / name).stat().st_ino for name in NAMES}
    StoreWriter.open(path).mark_pending("video", [5])
    after = {name: (path / name).stat().st_ino for name in NAMES}
    assert [before[name] == after[name] for name in NAMES] == [True, False, True]
    assert np.flatnonzero(~FeatureStore.open(path).available("video")).tolist() == [5]
    StoreWriter.open(path).add_clips(clip_records(11), root=path.parent)
    assert [after[name] == (path / name).stat().st_ino for name in NAMES] == [True, True, False]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.integers(1, 9), min_size=1, max_size=4), part=st.integers(1, 6))
def test_any_division_holds_the_same(tmp_path_factory, small_parts, batches, part):
    folder = tmp_path_factory.mktemp("division")
    parts.ROWS_PER_PART = part
    divided, whole = StoreWriter.open(folder / "divided"), None
    parts.ROWS_PER_PART = 1000
    whole = StoreWriter.open(folder / "whole")
    total = 0
    for size in batches:
        for writer in (divided, whole):
            rows = writer.add_clips(clip_records(size + 1, first=max(0, total - 1)), root=folder)
            assert rows.tolist() == list(range(max(0, total - 1), max(0, total - 1) + size + 1))
        total = max(0, total - 1) + size + 1
    write_pending(divided, video_spec(rows_per_shard=3))
    write_pending(whole, video_spec(rows_per_shard=3))
    assert divided.finish().equals(whole.finish())
    assert len(manifest_files(folder / "divided")) == -(-total // part)
    assert FeatureStore.open(folder / "divided").verify() == []


@pytest.mark.parametrize("lost", NAMES)
@pytest.mark.parametrize("how", ["gone", "cut", "flipped", "a folder"])
def test_a_lost_part_is_one_sentence_and_comes_back(path, lost, how):
    expected = FeatureStore.open(path).clips
    data = (path / lost).read_bytes()
    (path / lost).unlink()
    if how == "cut":
        (path / lost).write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        (path / lost).write_bytes(data[:150] + bytes([data[150] ^ 4]) + data[151:])
    elif how == "a folder":
        (path / lost).mkdir()
    for use in (lambda: FeatureStore.open(path).clips, lambda: StoreWriter.open(path).finish()):
        with pytest.raises(StoreError, match=lost.replace(".", r"\.") if how == "flipped" else "clips") as caught:
            use()
        assert "\n" not in str(caught.value)
        assert "avem cache repair" in str(caught.value)
    error, output = run("cache", "verify", "--cache", path)
    assert isinstance(error, StoreError)
    assert lost in output
    assert isinstance(run("cache", "verify", "--cache", path, "--sample", "3")[0], StoreError)
    if how == "a folder":
        assert "move it away" in str(run("cache", "repair", "--cache", path)[0])
        (path / lost).rmdir()
    error, output = run("cache", "repair", "--cache", path)
    assert error is None
    assert f"written again: {lost}" in output
    assert (path / lost).read_bytes() == data
    assert FeatureStore.open(path).clips.equals(expected)


def test_parts_of_a_wrong_size_or_in_a_wrong_order(path):
    first, second, third = (path / name for name in NAMES)
    data = [file.read_bytes() for file in (first, second, third)]
    second.write_bytes(data[2])
    with pytest.raises(StoreError, match=r"clips-000001.parquet is part 2 of the manifest"):
        FeatureStore.open(path)
    assert run("cache", "repair", "--cache", path)[0] is None
    assert second.read_bytes() == data[1]
    ours = pq.read_table(first)
    pq.write_table(ours.slice(0, 3), first)  # by another tool: without a number
    with pytest.raises(StoreError, match=r"clips.parquet has 3 rows, not 4"):
        FeatureStore.open(path)
    assert run("cache", "repair", "--cache", path)[0] is None
    assert first.read_bytes() == data[0]


def test_an_edited_entry_of_a_later_part_is_named_and_stays_known(path):
    table = pq.read_table(path / NAMES[1])
    labels = table["emotion"].to_pylist()
    labels[2] = "fear"
    position = table.schema.get_field_index("emotion")
    pq.write_table(table.set_column(position, "emotion", [labels]), path / NAMES[1])
    with pytest.raises(StoreError, match=r"'toy/006' \(row 6\) in .*clips-000001.parquet"):
        FeatureStore.open(path).clips  # noqa: B018
    assert FeatureStore.open(path).verify() == [6]
    StoreWriter.open(path).mark_pending("video", [5, 6])
    assert file_state((path / NAMES[1]).read_bytes()) is FileState.SOUND
    assert FeatureStore.open(path).verify() == [6]
    StoreWriter.open(path).enter_again({6: clip_records(1, first=6)[0]})
    assert FeatureStore.open(path).verify() == []


def test_a_long_manifest_of_an_older_avem_is_read_and_divided(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    make_store(path, clips=10)
    metadata = layout.read_metadata(path)
    del metadata["attributes"]["avem"]["rows_per_manifest_part"]
    layout.write_root(path, metadata)
    expected = FeatureStore.open(path).clips
    monkeypatch.setattr(parts, "ROWS_PER_PART", PART)
    assert FeatureStore.open(path).clips.equals(expected)
    shutil.copytree(path, tmp_path / "again")
    StoreWriter.open(path).add_clips(clip_records(11), root=tmp_path)
    assert len(manifest_files(path)) == 3
    assert FeatureStore.open(path).clips.slice(0, 10).equals(expected)

    again = tmp_path / "again"  # killed while it was being divided: the root knows the size, the first part is long
    (again / NAMES[1]).write_bytes(b"begun")
    layout.write_root(again, layout.read_metadata(path))
    assert FeatureStore.open(again).clips.equals(expected)
    assert FeatureStore.open(again).damaged_files() == []
    assert StoreWriter.open(again).stream(video_spec()).statuses() == ["ok"] * 10
    StoreWriter.open(again).finish()
    assert len(manifest_files(again)) == 3
    assert FeatureStore.open(again).clips.equals(expected)
    assert FeatureStore.open(again).verify() == []


def test_an_index_beside_a_part_is_used_and_never_trusted(path, monkeypatch):
    assert (path / "clips.ids").is_file()
    wanted = ["toy/009", "toy/001", "toy/006"]
    made = []
    monkeypatch.setattr(view.IdIndex, "of", classmethod(lambda cls, hashes: made.append(len(hashes))))
    assert FeatureStore.open(path).rows(wanted).tolist() == [9, 1, 6]
    assert made == []
    monkeypatch.undo()
    data = (path / "clips-000001.ids").read_bytes()
    other = (path / "clips.ids").read_bytes()
    for spoiled in (b"", data[:-1], data[:40] + bytes([data[40] ^ 1]) + data[41:], other):
        (path / "clips-000001.ids").write_bytes(spoiled)
        assert FeatureStore.open(path).rows(wanted).tolist() == [9, 1, 6]
    monkeypatch.setattr(edit, "INDEX_FROM", 2)
    monkeypatch.setattr(parts, "ROWS_PER_PART", PART)
    StoreWriter.open(path).mark_pending("video", [6])
    assert (path / "clips-000001.ids").read_bytes() == data  # its ids are the same


def test_columns_of_other_streams_are_kept_and_checked(path):
    editor = ManifestEditor(path)
    cells = {"face/mae_status": ["ok", "failed: x"], "face_decoder": ["pyav", None]}
    editor.change(edit.Cells(np.array([1, 6]), {name: pa.array(values) for name, values in cells.items()}))
    editor.write()
    store = FeatureStore.open(path)
    assert store.clips["face/mae_status"].to_pylist() == [None, "ok", *[None] * 4, "failed: x", *[None] * 3]
    assert store.manifest.available("face/mae").tolist() == [row == 1 for row in range(10)]
    assert store.verify() == []
    assert "face/mae_status" not in pq.read_table(path / NAMES[2]).column_names
    cells = ["1", "toy/001", "toy", "train", "clips/001.mp4", "", "speaker-1", "sadness", "", "1.5", "", "", "True"]
    cells += [f"{1:064x}", "0", "0", "ok", "ok", "face/mae_status=ok", "face_decoder=pyav"]
    text = "\x1f".join(cells)
    assert store.clip(1)["check"] == google_crc32c.value(text.encode())
    StoreWriter.open(path).add_clips(clip_records(12), root=path.parent)
    assert FeatureStore.open(path).clips["face/mae_status"][6].as_py() == "failed: x"


def test_committing_folds_when_there_are_many_records(path, monkeypatch):
    monkeypatch.setattr(folding, "MOST_RECORDS", 2)
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(24), root=path.parent)
    spec = video_spec()
    stream = writer.stream(spec)
    loose = []
    for shard in stream.pending():
        stream.write(shard, *row_values(spec, shard.rows), [RowDetails(duration_s=2.0)] * len(shard.rows))
        loose.append(len(list((path / "ledger/video").glob("*.json"))))
        assert all(stream.statuses()[row] == "ok" for row in shard.rows)
    assert loose == [1, 2, 0, 1]
    store = FeatureStore.open(path)
    assert store.available("video").tolist() == [True] * 24
    assert store.clips["duration_s"].to_pylist() == [1.5] * 10 + [2.0] * 14
    assert not store.available("audio")[10:].any()
    assert store.verify() == []


def test_nobody_waits_for_another_fold(path, monkeypatch):
    monkeypatch.setattr(folding, "MOST_RECORDS", 0)
    writer = StoreWriter.open(path)
    writer.mark_pending("audio", range(4))
    stream, spec = writer.stream(audio_spec()), audio_spec()
    (shard,) = stream.pending()
    handle = os.open(path / "ledger/fold.lock", os.O_RDWR | os.O_CREAT)
    lock_file(handle, exclusive=True, wait=False)
    stream.write(shard, *row_values(spec, shard.rows), [RowDetails()] * 4)
    assert len(list((path / "ledger/audio").glob("*.json"))) == 1
    os.close(handle)
    assert folding.fold_when_many(path, "audio")
    assert not list((path / "ledger/audio").glob("*.json"))
    assert FeatureStore.open(path).verify() == []


def test_a_fold_does_not_drop_what_a_lost_manifest_can_not_hold(path):
    writer = StoreWriter.open(path)
    writer.mark_pending("audio", range(8, 10))
    stream, spec = writer.stream(audio_spec()), audio_spec()
    (shard,) = stream.pending()
    stream.write(shard, *row_values(spec, shard.rows), [RowDetails()] * 2)
    (path / NAMES[2]).unlink()
    with pytest.raises(StoreError, match="avem cache repair"):
        folding.fold_ledger(path)
    assert list((path / "ledger/audio").glob("*.json"))


def test_the_history_stays_small_and_is_not_read_whole(path, monkeypatch):
    monkeypatch.setattr(ledger, "HISTORY_BYTES", 3000)
    monkeypatch.setattr(ledger, "TAIL_BYTES", 16)
    history = path / "ledger/history.jsonl"
    with history.open("ab") as file:
        file.write(b'{"torn')
    writer = StoreWriter.open(path)
    for turn in range(12):
        writer.mark_pending("video", range(10))
        write_pending(writer, video_spec(), seed=turn)
        writer.finish()
    assert all(json.loads(line)["kind"] for line in history.read_bytes().splitlines())
    sizes = [(path / "ledger" / name).stat().st_size for name in ("history.jsonl", "history-before.jsonl")]
    assert max(sizes) < 6000
    assert FeatureStore.open(path).damaged_files() == []


def test_a_sample_is_seeded_and_finds_damage(path):
    shard = path / "video/tiny-video/features/c.1.0.0.0"
    data = bytearray(shard.read_bytes())
    data[2 * 52] ^= 1  # row 6
    shard.write_bytes(data)
    found = [run("cache", "verify", "--cache", path, "--sample", "3", "--seed", seed) for seed in range(12)]
    assert {isinstance(error, StoreError) for error, _ in found} == {True, False}
    for error, output in found:
        assert ("row 6 (toy/006)" in output) == isinstance(error, StoreError)
        assert ("3 video/tiny-video rows, 3 audio/tiny-audio rows (seed" in output) == (error is None)
    assert isinstance(run("cache", "verify", "--cache", path, "--sample", "100%")[0], StoreError)
    for wrong in ("0", "x", "0%", "101%", "-3"):
        error, _ = run("cache", "verify", "--cache", path, "--sample", wrong)
        assert isinstance(error, AvemError)
        assert "sample" in str(error).lower()


def test_new_rows_have_nothing_extracted():
    table = new_rows(clip_records(2))
    assert table["video_status"].to_pylist() == ["pending"] * 2
    assert table["duration_s"].null_count == 2


def test_opening_lists_parts_in_order(path):
    assert parts.part_numbers(Location.parse(path)) == [0, 1, 2]
