"""Appending, resuming, refusing: what a writer does to a store."""

import errno

import numpy as np
import pytest
import torch

from avem.cache import ClipRecord, FeatureStore, RowDetails, Shard, StoreWriter, StreamSpec
from avem.errors import FingerprintError, SettingError, StoreError, UnknownClipError
from avem.records import Clip, Emotion
from tests.cache.helpers import clip_records, make_store, row_values, video_spec, write_pending


def test_clips_keep_their_rows_and_changed_files_are_named(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    assert writer.add_clips(clip_records(3), root=tmp_path).tolist() == [0, 1, 2]
    assert writer.add_clips(clip_records(5)[::-1], root=tmp_path).tolist() == [3, 4, 2, 1, 0]
    changed = ClipRecord("toy/001", "toy", "clips/001.mp4", sha256="f" * 64)
    with pytest.raises(StoreError, match="toy/001"):
        writer.add_clips([changed], root=tmp_path)
    assert len(writer.finish()) == 5


def test_the_manifest_holds_what_the_dataset_said(tmp_path):
    clip = Clip("d/a", "d", "a.mp4", Emotion.FEAR, "scared", "test", "film 7", "a.wav")
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips([ClipRecord.of(clip, "0" * 64, 12, 34), ClipRecord("d/b", "d", "b.mp4", "1" * 64)], root=tmp_path)
    first, second = writer.clips.to_pylist()
    assert (first["emotion"], first["emotions_raw"], first["split"], first["source"]) == (
        "fear",
        "scared",
        "test",
        "film 7",
    )
    assert (first["audio_path"], first["size_bytes"], first["modified_ns"]) == ("a.wav", 12, 34)
    assert (second["emotion"], second["duration_s"], second["video_status"]) == (None, None, "pending")
    assert FeatureStore.open(tmp_path / "cache").roots == {"d": str(tmp_path.resolve())}


def test_a_last_partial_shard_grows_with_the_clips(tmp_path):
    store = make_store(tmp_path / "cache", clips=6)
    before = store.video(range(6))
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(3, first=6), root=tmp_path)
    stream = writer.stream(video_spec())
    assert [(shard.index, shard.rows) for shard in stream.pending()] == [(1, range(6, 8)), (2, range(8, 9))]
    write_pending(writer, video_spec(), seed=1)
    store.refresh()
    assert torch.equal(store.video(range(6)), before)
    assert np.array_equal(store.video([8]).numpy(), row_values(video_spec(), [8], seed=1)[0].astype(np.float16))
    assert store.verify() == []


def test_failed_rows_are_tried_again_when_asked(tmp_path):
    spec = video_spec(rows_per_shard=8)
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(6), root=tmp_path)
    stream = writer.stream(spec)
    (shard,) = stream.pending()
    details = [RowDetails("failed", "no frames") if row in (1, 4) else RowDetails() for row in shard.rows]
    stream.write(shard, *row_values(spec, shard.rows), details)
    writer.finish()
    assert not list(stream.pending())
    (again,) = stream.pending(retry_failed=True)
    assert list(again.rows) == [1, 4]
    stream.write(again, *row_values(spec, again.rows), [RowDetails(), RowDetails("failed", "still none")])
    writer.finish()
    store = FeatureStore.open(tmp_path / "cache")
    assert store.clips["video_status"].to_pylist() == ["ok"] * 4 + ["failed: still none", "ok"]
    good = [0, 1, 2, 3, 5]
    assert np.array_equal(store.video(good).numpy(), row_values(spec, good)[0].astype(np.float16))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_rows_that_can_not_be_kept_fail_and_the_others_stay(tmp_path, value):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(3), root=tmp_path)
    stream = writer.stream(video_spec())
    (shard,) = stream.pending()
    features, pooled = row_values(video_spec(), shard.rows)
    features[1, 0, 0, 0] = value
    committed = stream.write(shard, features, pooled, [RowDetails()] * 3)
    assert [item.status for item in committed] == ["ok", "failed", "ok"]
    assert "NaN or infinity" in FeatureStore.open(tmp_path / "cache").clips["video_status"][1].as_py()


def test_refuses_features_made_in_another_way(tmp_path):
    make_store(tmp_path / "cache")
    writer = StoreWriter.open(tmp_path / "cache")
    spec = video_spec()
    with pytest.raises(FingerprintError, match=r"abc.*other"):
        writer.stream(StreamSpec("video", "tiny-video", {"weights": "other"}, spec.row_shape, 5, rows_per_shard=4))
    writer.stream(StreamSpec("video", "another", {"weights": "other"}, spec.row_shape, 5))
    assert FeatureStore.open(tmp_path / "cache").streams == ("video/tiny-video", "audio/tiny-audio", "video/another")
    with pytest.raises(StoreError, match="another store"):
        writer.stream(StreamSpec("video", "tiny-video", spec.fingerprint, (9, 3, 4), 5))
    kept = StreamSpec("video", "tiny-video", spec.fingerprint, spec.row_shape, 5, rows_per_shard=99)
    assert writer.stream(kept).spec.rows_per_shard == 4


def test_refuses_a_folder_of_other_things(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/__init__.py").write_text("")
    with pytest.raises(StoreError, match=r"__init__\.py"):
        StoreWriter.open(tmp_path / "cache")
    assert [item.name for item in (tmp_path / "cache").iterdir()] == ["__init__.py"]
    with pytest.raises(StoreError, match="is a file"):
        StoreWriter.open(tmp_path / "cache/__init__.py")
    with pytest.raises(StoreError, match="avem writes to s3:// URLs"):
        StoreWriter.open("memory://bucket/cache")
    (tmp_path / "empty").mkdir()
    assert len(StoreWriter.open(tmp_path / "empty").clips) == 0


def test_refuses_wrong_shapes_rows_and_settings(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(4), root=tmp_path)
    stream = writer.stream(video_spec())
    features, pooled = row_values(video_spec(), range(4))
    details = [RowDetails()] * 4
    with pytest.raises(SettingError, match="per clip"):
        stream.write(Shard(0, range(4)), features[:, :1], pooled, details)
    with pytest.raises(SettingError, match="4 rows but came with 3"):
        stream.write(Shard(0, range(4)), features[:3], pooled, details)
    with pytest.raises(SettingError, match="not ascending rows of shard 0"):
        stream.write(Shard(0, range(2, 6)), features, pooled, details)
    with pytest.raises(SettingError, match="not in the manifest"):
        stream.write(Shard(1, range(4, 8)), features, pooled, details)
    with pytest.raises(SettingError, match="can't be a folder"):
        StreamSpec("video", "../x", {}, (1, 2), 3)
    with pytest.raises(SettingError, match="float64"):
        StreamSpec("video", "x", {}, (1, 2), 3, dtype="float64")


def test_two_writers_share_shards_and_never_write_the_same_one(tmp_path):
    spec = video_spec()
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(8), root=tmp_path)
    mine, other = writer.stream(spec), StoreWriter.open(tmp_path / "cache").stream(spec)
    first, second = mine.pending()
    assert mine.claim(first)
    assert not other.claim(first)
    assert other.claim(second)
    rows = row_values(spec, first.rows)
    with pytest.raises(StoreError, match="Another writer is at shard 0"):
        other.write(first, *rows, [RowDetails()] * 4)
    mine.write(first, *rows, [RowDetails()] * 4)
    assert not other.claim(first)
    assert [shard.index for shard in mine.pending()] == [1]


def test_rows_marked_pending_are_written_again(tmp_path):
    store = make_store(tmp_path / "cache", clips=5)
    writer = StoreWriter.open(tmp_path / "cache")
    writer.mark_pending("video", [2])
    assert [(shard.index, list(shard.rows)) for shard in writer.stream(video_spec()).pending()] == [(0, [2])]
    write_pending(writer, video_spec(), seed=3)
    store.refresh()
    expected = row_values(video_spec(), [2], seed=3)[0].astype(np.float16)
    assert np.array_equal(FeatureStore.open(tmp_path / "cache").video([2]).numpy(), expected)
    with pytest.raises(UnknownClipError, match="no row 5"):
        writer.mark_pending("video", [5])


def test_a_store_without_its_ledger_goes_on(tmp_path):
    import shutil

    expected = make_store(tmp_path / "cache", clips=5).video(range(5))
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", ignore=shutil.ignore_patterns("ledger"))
    assert torch.equal(FeatureStore.open(tmp_path / "copy").video(range(5)), expected)
    writer = StoreWriter.open(tmp_path / "copy")
    assert not list(writer.stream(video_spec()).pending())
    writer.add_clips(clip_records(1, first=5), root=tmp_path)
    write_pending(writer, video_spec())
    assert torch.equal(FeatureStore.open(tmp_path / "copy").video(range(5)), expected)


@pytest.mark.parametrize("at", range(7))
def test_a_full_disk_leaves_what_was_there_and_the_rest_to_be_written(tmp_path, monkeypatch, at):
    spec = video_spec()
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(6), root=tmp_path)
    stream = writer.stream(spec)
    first, second = stream.pending()
    stream.write(first, *row_values(spec, first.rows), [RowDetails()] * 4)
    calls = 0

    def full_disk(handle):
        nonlocal calls
        calls += 1
        if calls > at:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        if at < 6:
            with pytest.raises(StoreError, match="the disk is full; make room"):
                stream.write(second, *row_values(spec, second.rows), [RowDetails()] * 2)
        else:
            stream.write(second, *row_values(spec, second.rows), [RowDetails()] * 2)
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert len(list(stream.pending())) in ((1,) if at < 5 else (0,))
    write_pending(writer, spec)
    store = FeatureStore.open(tmp_path / "cache")
    assert store.verify() == []
    assert np.array_equal(store.video(range(6)).numpy(), row_values(spec, range(6))[0].astype(np.float16))
