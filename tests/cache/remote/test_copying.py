"""Pushing and pulling: the same bytes, only what differs, and never half a store to be seen, whoever is killed."""

import os
import random

import fsspec
import numpy as np
import pytest
import torch

from avem.cache import FeatureStore, RowDetails, StoreWriter
from avem.cache.remote import objects, transfer
from avem.cache.remote.pull import pull
from avem.cache.remote.push import push
from avem.errors import MissingFileError, SettingError, StoreError
from tests.cache.helpers import clip_records, make_store, row_values, video_spec, write_pending
from tests.cache.remote.killing import killed_at

URL = "s3://bucket/copy/cache"


def contents(store):
    return {name: (store / name).read_bytes() for name in transfer.local_files(store)}


def objects_there():
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    return {path.removeprefix("bucket/copy/cache/"): files.cat_file(path) for path in files.find("bucket/copy/cache")}


def grow(path, clips):
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(clips), root=path.parent)
    write_pending(writer, video_spec())
    writer.finish()


@pytest.mark.usefixtures("bucket")
def test_there_and_back(tmp_path):
    make_store(tmp_path / "cache")
    report = push(tmp_path / "cache", URL)
    assert report.copied == len(contents(tmp_path / "cache"))
    there = objects_there()
    assert there.pop("ledger/push.json")
    assert there == contents(tmp_path / "cache")
    pull(URL, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "cache")
    assert FeatureStore.open(tmp_path / "back").verify() == []
    assert not list((tmp_path / "back").rglob("*.tmp"))


def test_only_what_differs(tmp_path, bucket):
    make_store(tmp_path / "cache")
    push(tmp_path / "cache", URL)
    pull(URL, tmp_path / "back")
    bucket.clear()
    assert (push(tmp_path / "cache", URL).copied, pull(URL, tmp_path / "back").copied) == (0, 0)
    assert not [path for method, path in bucket.requests if method == "GET" and "/c." in path]
    grow(tmp_path / "cache", 11)  # rows 8 and 9 share their shard with the new one
    before = objects_there()
    report = push(tmp_path / "cache", URL)
    changed = {name for name, content in objects_there().items() if before.get(name) != content}
    assert report.copied == len(changed - {"ledger/push.json"})
    assert "video/tiny-video/features/c.2.0.0.0" in changed
    assert "video/tiny-video/features/c.1.0.0.0" not in changed
    assert pull(URL, tmp_path / "back").copied == report.copied
    assert contents(tmp_path / "back") == contents(tmp_path / "cache")


@pytest.mark.usefixtures("bucket")
def test_without_a_record_files_are_compared(tmp_path):
    make_store(tmp_path / "cache")
    push(tmp_path / "cache", URL)
    pull(URL, tmp_path / "back")
    fsspec.filesystem("s3").rm_file(f"{URL}/ledger/push.json")
    (tmp_path / "back" / "ledger" / "pull.json").unlink()
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path)
    assert (push(tmp_path / "cache", URL).copied, pull(URL, tmp_path / "back").copied) == (0, 0)


@pytest.mark.usefixtures("bucket")
def test_a_store_in_the_making_is_copied_and_its_folded_records_go(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(8), root=tmp_path)
    write_pending(writer, video_spec())  # in the ledger alone
    push(tmp_path / "cache", URL)
    pull(URL, tmp_path / "back")
    assert FeatureStore.open(URL).available("video").all()
    assert FeatureStore.open(tmp_path / "back").available("video").all()
    writer.finish()
    assert push(tmp_path / "cache", URL).removed == 2
    assert pull(URL, tmp_path / "back").removed == 2
    assert not [name for name in objects_there() if name.startswith("ledger/video/")]
    assert contents(tmp_path / "back") == contents(tmp_path / "cache")


def test_what_others_made_stays(tmp_path, bucket):
    make_store(tmp_path / "cache")
    make_store(tmp_path / "other", clips=4)
    files = fsspec.filesystem("s3")
    files.pipe_file(f"{URL}/thesis.txt", b"mine")
    with pytest.raises(StoreError, match=r"s3://bucket/copy/cache holds something that is not a feature store"):
        push(tmp_path / "cache", URL)
    assert objects_there() == {"thesis.txt": b"mine"}
    files.rm_file(f"{URL}/thesis.txt")
    push(tmp_path / "cache", URL)
    before = objects_there()
    with pytest.raises(StoreError, match="was not copied from this one"):
        push(tmp_path / "other", URL)
    assert objects_there() == before
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    with pytest.raises(SettingError, match="holds something that is not a feature store"):
        pull(URL, tmp_path / "folder")
    with pytest.raises(StoreError, match="did not come from s3://bucket/copy/cache"):
        pull(URL, tmp_path / "other")
    assert len(FeatureStore.open(tmp_path / "other")) == 4
    pull(URL, tmp_path / "back")
    push(tmp_path / "cache", "s3://bucket/copy/second")
    with pytest.raises(StoreError, match="a copy of s3://bucket/copy/cache, not of s3://bucket/copy/second"):
        pull("s3://bucket/copy/second", tmp_path / "back")
    grow(tmp_path / "back", 12)
    with pytest.raises(StoreError, match="was changed since"):
        pull(URL, tmp_path / "back")
    assert len(FeatureStore.open(tmp_path / "back")) == 12
    push(tmp_path / "back", URL)  # it is what was pulled, and more
    with pytest.raises(StoreError, match="changed by others since"):
        push(tmp_path / "cache", URL)
    with pytest.raises(MissingFileError, match="no feature store at s3://bucket/copy/nothing"):
        pull("s3://bucket/copy/nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("bucket")
def test_large_files_go_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 2**20)
    spec = video_spec()
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(4), root=tmp_path)
    big = type(spec)("video", "big", {}, (2, 700, 1024), 5, "float16", 4)
    stream = writer.stream(big)
    for shard in stream.pending():
        features, pooled = row_values(big, shard.rows)
        stream.write(shard, features, pooled, [RowDetails()] * 4)
    writer.finish()
    push(tmp_path / "cache", URL)
    assert fsspec.filesystem("s3").info(f"{URL}/video/big/features/c.0.0.0.0")["ETag"].endswith('-3"')
    assert push(tmp_path / "cache", URL).copied == 0
    pull(URL, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "cache")
    assert torch.equal(FeatureStore.open(URL).video([3]), FeatureStore.open(tmp_path / "cache").video([3]))


def shows_half(store):
    """Whether a store says that a clip is there whose features are not."""
    return store.verify() != [] or not np.all(store.available("video"))


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(transfer, "SAVE_EVERY_S", 0.0)
    make_store(tmp_path / "cache", clips=40)
    expected, chance = contents(tmp_path / "cache"), random.Random(2)
    for target, direction, other in (
        (URL, lambda: push(tmp_path / "cache", URL), lambda: push(tmp_path / "cache", "s3://bucket/copy/whole")),
        (tmp_path / "back", lambda: pull(URL, tmp_path / "back"), lambda: pull(URL, tmp_path / "whole")),
    ):
        bucket.clear()
        other()
        requests = len(bucket.requests)
        for _ in range(4):
            assert killed_at(bucket, chance.randrange(1, requests // 4), direction) == 1
            try:
                store = FeatureStore.open(target)
            except MissingFileError:
                continue
            assert not shows_half(store)
        report = direction()
        assert report.copied + report.unchanged == len(expected)
    there = objects_there()
    del there["ledger/push.json"]
    assert there == contents(tmp_path / "back") == expected
