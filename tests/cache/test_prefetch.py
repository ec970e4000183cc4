"""Batches come in order, in few buffers, and errors arrive where the batches are used."""

import gc
import threading
import time

import numpy as np
import pytest
import torch

from avem.cache import Prefetcher
from avem.errors import SettingError, StoreError, UnknownClipError
from tests.cache.helpers import make_store


def batches_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"video": rng.integers(0, 10, rng.integers(1, 6)), "audio": rng.integers(0, 10, 3).tolist()}
        for _ in range(count)
    ]


def reading_threads():
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_every_batch_is_what_the_store_gives(tmp_path, dtype):
    store = make_store(tmp_path / "cache", dtype=dtype)
    given = batches_of(20)
    with Prefetcher(store, given, ahead=3) as ready:
        for wanted, batch in zip(given, ready, strict=True):
            assert set(batch.features) == {"video", "audio"}
            for kind, rows in wanted.items():
                assert batch.rows[kind].tolist() == list(rows)
                assert torch.equal(batch.features[kind], store.features(kind, rows))
        assert next(ready, None) is None
        assert ready.waited_s > 0
    assert reading_threads() == 0


def test_memory_is_bounded_and_used_again(tmp_path):
    store = make_store(tmp_path / "cache")
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield {"video": range(8)}

    places = set()
    with Prefetcher(store, endless(), ahead=2) as ready:
        for number, batch in zip(range(50), ready, strict=False):
            places.add(batch.features["video"].data_ptr())
            assert len(taken) <= number + 4
        time.sleep(0.05)
        assert len(taken) <= 54
    assert len(places) == 3
    assert reading_threads() == 0


def test_a_batch_larger_than_its_share_is_refused(tmp_path):
    store = make_store(tmp_path / "cache")
    rows = np.zeros(20_000, dtype=np.int64)  # 0.9 MiB
    with Prefetcher(store, [{"video": rows}] * 3, ahead=1, memory_mb=2) as ready:
        assert sum(1 for _ in ready) == 3
    with (
        Prefetcher(store, [{"video": rows}] * 3, ahead=2, memory_mb=2) as ready,
        pytest.raises(SettingError, match=r"0\.9 MiB and 0\.7 MiB are given"),
    ):
        next(ready)
    with pytest.raises(SettingError, match="at least 1"):
        Prefetcher(store, [], ahead=0)


def test_errors_arrive_with_the_batch_they_belong_to(tmp_path):
    store = make_store(tmp_path / "cache")
    with Prefetcher(store, [{"video": [1]}, {"audio": [2]}, {"video": [99]}, {"video": [1]}]) as ready:
        assert next(ready).rows["video"].tolist() == [1]
        assert torch.equal(next(ready).features["audio"], store.audio([2]))
        with pytest.raises(UnknownClipError, match="no row 99"):
            next(ready)
        assert next(ready, None) is None
    next((tmp_path / "cache/video/tiny-video/features").glob("c.1.*")).unlink()
    with Prefetcher(store, [{"video": [5]}]) as ready, pytest.raises(StoreError, match="avem cache verify"):
        next(ready)


def test_an_abandoned_iterator_ends_its_thread(tmp_path):
    ready = Prefetcher(make_store(tmp_path / "cache"), iter(lambda: {"video": [0]}, None))
    next(ready)
    assert reading_threads() == 1
    del ready
    gc.collect()
    for _ in range(100):
        if not reading_threads():
            break
        time.sleep(0.01)
    assert reading_threads() == 0
