"""Ranges of remote objects: joined, in parts, repeated after faults, after a fork and in a copy of the reader."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.cache.remote import fetch, ranges
from avem.cache.remote.fetch import Fetcher, LostObjectError
from avem.cache.remote.ranges import plan_requests
from avem.errors import StoreError

DATA = np.random.default_rng(0).integers(0, 256, 40_000, dtype=np.uint8).tobytes()


@pytest.fixture
def _small_requests(monkeypatch):
    monkeypatch.setattr(ranges, "GAP_BYTES", 100)
    monkeypatch.setattr(ranges, "REQUEST_BYTES", 5000)


@pytest.fixture
def objects(bucket):
    files = fsspec.filesystem("s3")
    files.pipe_file("bucket/x/a", DATA)
    files.pipe_file("bucket/x/deep/b", DATA[::-1])
    bucket.clear()
    return Fetcher("s3://bucket/x")


spans = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 40_000), st.integers(0, 12_000))


@given(st.lists(spans, max_size=20))
def test_requests_cover_each_range_once(wanted):
    asked = [(name, start, start + length) for name, start, length in wanted]
    requests = plan_requests(asked)
    for position, (name, start, stop) in enumerate(asked):
        mine = sorted((r for r in requests if position in r.of), key=lambda r: r.start)
        assert all(r.name == name for r in mine)
        assert mine[0].start <= start
        assert mine[-1].stop >= stop
        assert all(before.stop == after.start for before, after in pairwise(mine))


@pytest.mark.usefixtures("_small_requests")
def test_ranges_of_any_size_come_as_they_are(objects, bucket):
    wanted = [("a", 0, 10), ("a", 100, 17_000), ("deep/b", 5, 6), ("a", -7, None), ("a", 20, 30), ("a", 39_990, 50_000)]
    found = [bytes(data) for data in objects.fetch(wanted)]
    assert found == [DATA[:10], DATA[100:17_000], DATA[::-1][5:6], DATA[-7:], DATA[20:30], DATA[39_990:]]
    assert bucket.counts() == {"GET": 10}  # two small ones together, four and three parts, and one each for the rest


@pytest.mark.usefixtures("_small_requests")
def test_a_range_behind_the_end_is_empty_and_a_long_one_ends_with_its_object(objects):
    assert bytes(objects.fetch([("a", 50_000, 50_010)])[0]) == b""
    assert bytes(objects.fetch([("a", 38_000, 60_000)])[0]) == DATA[38_000:]


def test_a_suffix_is_one_request_and_a_lost_object_is_named(objects, bucket):
    assert bytes(objects.suffix("a", 100)) == DATA[-100:]
    assert bucket.requests == [("GET", "/bucket/x/a")]
    with pytest.raises(LostObjectError, match=r"s3://bucket/x/lost is not there"):
        objects.fetch([("a", 0, 1), ("lost", 0, 1)])
    assert objects.read_many(["lost", "deep/b"]) == [None, DATA[::-1]]
    assert objects.list("") == {"a": objects.list("")["a"]}
    assert {name: item.size for name, item in objects.list("", deep=True).items()} == {"a": 40_000, "deep/b": 40_000}
    assert [objects.exists(name) for name in ("a", "deep", "dee")] == [True, True, False]


def test_faults_that_pass_are_repeated(objects, bucket):
    numbers = count()
    bucket.fault = lambda method, path: "refuse" if next(numbers) % 3 == 0 else None
    assert bytes(objects.fetch([("a", 0, 10)])[0]) == DATA[:10]
    assert [bytes(data) for data in objects.fetch([("a", i, i + 1) for i in range(0, 40_000, 4000)])] == [
        DATA[i : i + 1] for i in range(0, 40_000, 4000)
    ]


def test_faults_of_a_connection_are_repeated_and_then_named(objects, monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.001)
    real, tries = type(objects.objects).get, []

    async def broken(self, name, start, stop):
        tries.append(name)
        if len(tries) < 4:
            raise ConnectionResetError("the connection broke")
        return await real(self, name, start, stop)

    monkeypatch.setattr(type(objects.objects), "get", broken)
    assert bytes(objects.fetch([("a", 0, 10)])[0]) == DATA[:10]
    assert len(tries) == 4
    monkeypatch.setattr(fetch, "ATTEMPTS", 3)
    tries.clear()
    with pytest.raises(StoreError, match=r"^s3://bucket/x/a can't be read \(the connection broke\)\.$"):
        objects.fetch([("a", 0, 10)])
    assert len(tries) == 3


def test_threads_share_a_fetcher(objects):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: bytes(objects.fetch([("a", i, i + 5), ("deep/b", i, i + 5)])[1]), range(64)))
    assert found == [DATA[::-1][i : i + 5] for i in range(64)]


def test_it_works_in_a_forked_process_and_in_a_copy(objects):
    assert bytes(objects.fetch([("a", 0, 10)])[0]) == DATA[:10]  # its connections and its loop are in use
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if bytes(objects.fetch([("a", 5, 15)])[0]) == DATA[5:15] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(pickle.loads(pickle.dumps(objects)).fetch([("a", 5, 15)])[0]) == DATA[5:15]


def test_other_protocols_work_through_fsspec():
    files = fsspec.filesystem("memory")
    files.pipe_file("/fetch/x/a", DATA)
    files.pipe_file("/fetch/x/deep/b", DATA[::-1])
    fetcher = Fetcher("memory://fetch/x")
    assert [bytes(data) for data in fetcher.fetch([("a", 3, 9), ("deep/b", -5, None), ("a", 0, None)])] == [
        DATA[3:9],
        DATA[::-1][-5:],
        DATA,
    ]
    assert fetcher.read("lost") is None
    assert set(fetcher.list("", deep=True)) == {"a", "deep/b"}
    assert set(fetcher.list("")) == {"a"}
    with pytest.raises(StoreError, match=r"nowhere://x can't be reached"):
        Fetcher("nowhere://x")
