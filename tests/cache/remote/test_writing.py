"""Writing into a bucket: the bytes of a local store, whatever fails, whoever is killed, and however many write."""

import os
import random
import threading
import time
from itertools import count

import fsspec
import pytest
import torch

from avem.cache import FeatureStore, RowDetails, StoreWriter
from avem.cache.disk.location import Location
from avem.cache.manifest.subtitles import Subtitle
from avem.cache.remote import leases
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.leases import Bucket, Session
from avem.cache.remote.mirror import close_mirror
from avem.cache.remote.objects import ConflictError
from avem.cache.remote.transfer import belongs, local_files
from avem.errors import FingerprintError, StoreError
from tests.cache.helpers import clip_records, row_values, video_spec
from tests.cache.remote.killing import in_child, killed_at
from tests.cache.remote.test_rows import ragged_spec, ragged_values

URL = "s3://bucket/written/cache"


def write_all(store, clips, root):
    """Add clips and write every shard that nobody else does, until none is pending."""
    writer = StoreWriter.open(store)
    writer.add_clips(clip_records(clips), root=root)
    for spec in (video_spec(rows_per_shard=3), ragged_spec(rows_per_shard=3)):
        stream = writer.stream(spec)
        while shards := list(stream.pending()):
            for shard in shards:
                if stream.claim(shard):
                    values, details = values_of(spec, shard.rows), [RowDetails(duration_s=1.0)] * len(shard.rows)
                    stream.write(shard, *values[:2], details, **values[2])
            time.sleep(0.05)
        stream.close()
        writer.finish()


def values_of(spec, rows):
    return ragged_values(spec, rows) if spec.ragged else (*row_values(spec, rows), {})


def there():
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    first = len("bucket/written/cache/")
    return {path[first:]: files.cat_file(path) for path in files.find("bucket/written/cache") if belongs(path[first:])}


def here(store):
    return {name: (store / name).read_bytes() for name in local_files(store)}


def without_order(contents):
    """Without the history, whose lines stand in the order of the folds."""
    return {name: content for name, content in contents.items() if name != "ledger/history.jsonl"}


@pytest.fixture(autouse=True)
def _no_session_is_left(bucket):
    yield
    close_mirror(URL)


@pytest.fixture
def _short_lease(monkeypatch):
    monkeypatch.setattr(leases, "LEASE_S", 3.0)
    monkeypatch.setattr(leases, "POLL_S", 0.02)


def test_the_bytes_are_those_of_a_local_store(tmp_path, bucket):
    for store in (tmp_path / "cache", URL):
        write_all(store, 7, tmp_path)
        write_all(store, 8, tmp_path)  # the last shard is rewritten with its old row
    assert there() == here(tmp_path / "cache")
    store = FeatureStore.open(URL)
    assert store.verify() == store.damaged_files() == []
    assert torch.equal(
        store.stream("video/tiny-video").rows(range(8)),
        FeatureStore.open(tmp_path / "cache").stream("video/tiny-video").rows(range(8)),
    )
    assert not [path for path in fsspec.filesystem("s3").find(URL) if "/claims/" in path or "lock.json" in path]


def test_every_change_of_a_local_store(tmp_path, bucket):
    for store in (tmp_path / "cache", URL):
        write_all(store, 7, tmp_path)
        writer = StoreWriter.open(store)
        writer.remember_long(["toy"], "cut")
        first = writer.clips["clip_id"][0].as_py()
        assert writer.enter_subtitles({first: Subtitle("Ça va ?", "srt")}) == 1
        assert FeatureStore.open(store).columns(["subtitle"])["subtitle"].to_pylist() == ["Ça va ?", *[None] * 6]
        writer.mark_pending("video", [2, 5])
        assert StoreWriter.open(store).clips["video_status"].to_pylist().count("pending") == 2
        assert writer.long == {"toy": "cut"}
        stream = writer.stream(video_spec(rows_per_shard=3))
        assert [list(shard.rows) for shard in stream.pending()] == [[2], [5]]
        write_all(store, 7, tmp_path)
        writer.enter_again({1: clip_records(1, first=30)[0]})
        assert [list(shard.rows) for shard in stream.pending()] == [[1]]
        with pytest.raises(FingerprintError, match=str(store)):
            writer.stream(type(video_spec())("video", "tiny-video", {"weights": "other"}, (2, 3, 4), 5, "float16", 3))
    assert without_order(there()) == without_order(here(tmp_path / "cache"))


@pytest.mark.parametrize("what", ["refuse", "lose"])
def test_faults_change_nothing(tmp_path, bucket, what):
    """Requests are refused, or carried out and then answered by an error."""
    numbers = count()
    bucket.fault = lambda method, path: what if method in ("PUT", "GET") and next(numbers) % 7 == 0 else None
    write_all(URL, 7, tmp_path)
    bucket.fault = None
    write_all(tmp_path / "cache", 7, tmp_path)
    assert there() == here(tmp_path / "cache")


@pytest.mark.usefixtures("_short_lease")
@pytest.mark.slow
def test_killed_writers_lose_only_what_they_were_writing(tmp_path, bucket):
    chance, whole = random.Random(3), "s3://bucket/written/whole"
    bucket.clear()
    write_all(whole, 14, tmp_path)
    close_mirror(whole)
    requests = len(bucket.requests)

    def work():
        write_all(URL, 14, tmp_path)

    for _ in range(6):
        assert killed_at(bucket, chance.randrange(1, requests // 6), work, processes=2)
        if Location.parse(URL).exists("zarr.json"):
            store = FeatureStore.open(URL)
            assert [row for row in store.verify() if not row.entry] == []
    children = [in_child(work) for _ in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    write_all(tmp_path / "cache", 14, tmp_path)
    assert without_order(there()) == without_order(here(tmp_path / "cache"))


def test_a_claim_has_one_owner_and_ends_with_its_session(bucket, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_S", 2.0)
    store = Bucket(Fetcher(URL))
    one, two = Session(store), Session(store)
    assert one.take("ledger/claims/video/000001.json")
    assert one.take("ledger/claims/video/000001.json")
    assert not two.take("ledger/claims/video/000001.json")
    one.release("ledger/claims/video/000001.json")
    assert two.take("ledger/claims/video/000001.json")
    two._stop.set()  # it reports no more, as if it had been killed
    deadline = time.monotonic() + 10
    while not one.take("ledger/claims/video/000001.json"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not two.holds("ledger/claims/video/000001.json")
    two.release("ledger/claims/video/000001.json")  # it wakes up late: the claim is no longer its own
    assert one.holds("ledger/claims/video/000001.json")
    one.close()


def test_one_of_many_threads_gets_a_claim(bucket):
    store = Bucket(Fetcher(URL))
    sessions = [Session(store) for _ in range(8)]
    won = []
    threads = [
        threading.Thread(target=lambda s=s: won.append(s) if s.take("ledger/lock.json") else None) for s in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    for session in sessions:
        session.close()


def test_a_late_writer_overwrites_nothing(bucket):
    store = Bucket(Fetcher(URL))
    first = store.put("a", b"1", None)
    second = store.put("a", b"2", first)
    with pytest.raises(ConflictError):
        store.put("a", b"3", first)
    with pytest.raises(ConflictError):
        store.put("a", b"3", None)
    assert not store.remove("a", first)
    assert store.get("a") == (b"2", second)
    assert store.put("a", b"2", first) == second  # the reply to this very put was lost


def test_what_is_no_store_stays(tmp_path, bucket):
    fsspec.filesystem("s3").pipe_file(f"{URL}/thesis.txt", b"mine")
    with pytest.raises(StoreError, match=r"s3://bucket/written/cache holds something that is not a feature store"):
        StoreWriter.open(URL)
    assert there() == {"thesis.txt": b"mine"}
    with pytest.raises(StoreError, match="memory://x/cache can't be written: avem writes to s3:// URLs"):
        StoreWriter.open("memory://x/cache")
