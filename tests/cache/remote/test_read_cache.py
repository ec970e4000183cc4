"""The read cache: nothing stale, nothing damaged, nothing of others deleted, whoever shares it and however it ends."""

import logging
import os
import random
import signal
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from avem.cache import FeatureStore, RowDetails, StoreWriter
from avem.cache.remote import read_cache as module
from avem.cache.remote.read_cache import ReadCache
from avem.errors import SettingError
from tests.cache.helpers import make_store, row_values, video_spec


def parts(folder):
    return sorted(path for path in (folder / "parts").rglob("*") if path.is_file())


@pytest.fixture
def stores(tmp_path, upload):
    local = make_store(tmp_path / "cache", clips=20)
    return local, upload(tmp_path / "cache"), tmp_path / "reads"


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_rows_come_from_the_disk_the_second_time(tmp_path, upload, bucket, dtype):
    local = make_store(tmp_path / "cache", clips=20, dtype=dtype)
    url, cache = upload(tmp_path / "cache"), f"1GB:{tmp_path / 'reads'}"
    for turn in range(2):
        store = FeatureStore.open(url, read_cache=cache)
        bucket.clear()
        assert torch.equal(store.video([3, 9, 15]), local.video([3, 9, 15]))
        assert np.array_equal(store.pooled("audio"), local.pooled("audio"))
        objects = [path for _, path in bucket.requests if "/c." in path]
        assert bool(objects) == (turn == 0)
    assert parts(tmp_path / "reads")


def test_a_changed_shard_is_not_served_from_the_cache(stores, tmp_path, upload):
    _, url, reads = stores
    FeatureStore.open(url, read_cache=f"1GB:{reads}").video(range(20))
    make_store(tmp_path / "again", clips=20)
    writer = StoreWriter.open(tmp_path / "again")
    writer.mark_pending("video", range(20))
    stream = writer.stream(video_spec())
    for shard in stream.pending():
        stream.write(shard, *row_values(video_spec(), shard.rows, seed=1), [RowDetails()] * len(shard.rows))
    writer.finish()
    changed = FeatureStore.open(tmp_path / "again")
    upload(tmp_path / "again")
    again = FeatureStore.open(url, read_cache=f"1GB:{reads}")
    assert torch.equal(again.video(range(20)), changed.video(range(20)))


def test_a_damaged_part_is_read_again(stores):
    local, url, reads = stores
    FeatureStore.open(url, read_cache=f"1GB:{reads}").video(range(20))
    for number, path in enumerate(parts(reads)):
        content = bytearray(path.read_bytes())
        if number % 3 == 0:
            content[-1 - number % 5] ^= 1
        path.write_bytes(content[: len(content) // 2] if number % 3 == 1 else content)
    assert torch.equal(FeatureStore.open(url, read_cache=f"1GB:{reads}").video(range(20)), local.video(range(20)))


def test_the_least_recently_used_parts_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "USED_AGAIN_S", 0.0)
    cache = ReadCache(10_000, tmp_path / "reads")
    for number in range(9):
        cache.put(str(number), bytes([number]) * 1000)
        time.sleep(0.01)
    assert cache.get("0") == bytes(1000)
    time.sleep(0.01)
    cache.put("9", b"9" * 1000)
    held = [number for number in range(10) if cache.get(str(number)) is not None]
    assert held[0] == 0
    assert held[1:] == list(range(11 - len(held), 10))  # the others went in the order of their use
    assert cache.size() <= 10_000
    cache.put("huge", bytes(20_000))
    assert cache.get("huge") is None


def test_files_of_others_stay(tmp_path):
    cache = ReadCache(5000, tmp_path / "reads")
    group = tmp_path / "reads" / "parts" / "ab"
    group.mkdir()
    for path in (group / "notes.txt", tmp_path / "reads" / "mine", tmp_path / "reads" / "parts" / "letter"):
        path.write_text("mine")
    (group / ("0" * 64)).symlink_to(tmp_path / "reads" / "mine")
    for number in range(40):
        cache.put(str(number), bytes(1000))
    assert cache.size() <= 5000
    assert (group / "notes.txt").read_text() == (tmp_path / "reads" / "mine").read_text() == "mine"
    assert (tmp_path / "reads" / "parts" / "letter").exists()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(SettingError, match="holds something that is not a read cache made by avem"):
        ReadCache(5000, tmp_path / "foreign")


@pytest.mark.parametrize("text", ["", "12", "GB", "-1GB", "0GB", "x:/y"])
def test_a_size_that_is_none_is_refused(text, tmp_path):
    with pytest.raises(SettingError, match="read cache"):
        ReadCache.parse(text or ":" + str(tmp_path))


def test_the_environment_asks_for_it(stores, monkeypatch):
    local, url, reads = stores
    monkeypatch.setenv("AVEM_READ_CACHE", f"5MB:{reads}")
    store = FeatureStore.open(url)
    assert torch.equal(store.video([1]), local.video([1]))
    assert store.location.remote.read_cache.limit == 5_000_000
    assert parts(reads)


def test_a_full_disk_is_said_once_and_reading_continues(stores, monkeypatch, caplog):
    local, url, reads = stores
    store, expected = FeatureStore.open(url, read_cache=f"1GB:{reads}"), local.video(range(20))

    def full(self, mode="r", *arguments):
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "open", full)
        for rows in ([0], [5, 9], range(20)):
            assert torch.equal(store.video(rows), expected[list(rows)])
    said = [record.getMessage() for record in caplog.records if "Reading without the cache" in record.getMessage()]
    assert len(said) == 1
    assert "the disk is full" in said[0]
    assert not [path for path in parts(reads) if path.name.endswith(".tmp")]


def test_processes_share_one_and_may_be_killed(tmp_path):
    """Every process puts and gets parts of a size that makes all of them evict; what is served is always right."""
    folder, limit, chance = tmp_path / "reads", 60_000, random.Random(3)

    def content(number):
        return np.random.default_rng(number).bytes(2000 + number)

    def work(seed):
        cache, mine = ReadCache(limit, folder), random.Random(seed)
        while True:
            number = mine.randrange(100)
            found = cache.get(str(number))
            if found is None:
                cache.put(str(number), content(number))
            elif found != content(number):
                os._exit(3)

    for turn in range(5):
        children = []
        for seed in range(3):
            child = os.fork()
            if child == 0:
                status = 4
                try:
                    work(10 * turn + seed)
                finally:
                    os._exit(status)
            children.append(child)
        time.sleep(chance.uniform(0.1, 0.5))
        for child in children:
            os.kill(child, signal.SIGKILL)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        assert all(os.WIFSIGNALED(status) for status in statuses)
    cache = ReadCache(limit, folder)
    for number in range(100):
        assert cache.get(str(number)) in (None, content(number))
        cache.put(str(number), content(number))
    assert 0 < cache.size() <= limit + 3 * 2200  # what killed processes were writing counts until it is removed


def test_it_is_not_used_on_a_local_store_or_on_a_protocol_without_versions(stores, monkeypatch):
    local, _, reads = stores
    files = fsspec.filesystem("memory")
    for path in local.location.local.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/reads/{path.relative_to(local.location.local).as_posix()}", path.read_bytes())
    store = FeatureStore.open("memory://reads", read_cache=f"1GB:{reads}")
    assert torch.equal(store.video(range(20)), local.video(range(20)))
