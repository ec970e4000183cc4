"""Writers killed while they replace something leave the old or the new, and no litter once the next one has run."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from pathlib import Path

import h5py
import numpy as np

from avem.cache import FeatureStore, ScoreCache, StoreWriter, match_all, mine_negatives
from avem.cache.disk.locks import ShardLocks, store_lock
from avem.cache.disk.sweep import sweep
from avem.cache.exchange.hdf5 import export_hdf5, import_hdf5
from tests.cache.helpers import clip_records, make_store

ROOT = Path(__file__).parents[2]


def killed_after(lines, work):
    """Run work in a forked process that kills itself at the n-th line of avem's code; whether it died."""
    child = os.fork()
    if child == 0:
        left = lines

        def trace(frame, event, argument):
            nonlocal left
            if not frame.f_code.co_filename.startswith((str(ROOT / "cache"), str(ROOT / "avem"))):
                return None
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        status = 1
        try:
            sys.settrace(trace)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def mined(path):
    store = FeatureStore.open(path)
    return [store.negatives("hard", modality).tolist() for modality in ("audio", "video", "audiovisual")]


def litter(path):
    return [*path.rglob("*.tmp"), *path.rglob("*.old")]


def test_mining_is_replaced_at_once(tmp_path):
    path = tmp_path / "cache"
    mine_negatives(make_store(path, clips=12), k=1)
    old = mined(path)
    mine_negatives(FeatureStore.open(path), k=3)
    new = mined(path)
    chance, deaths, seen = random.Random(1), 0, set()
    for _ in range(25):
        mine_negatives(FeatureStore.open(path), k=1)
        deaths += killed_after(chance.randrange(1800), lambda: mine_negatives(FeatureStore.open(path), k=3))
        now = mined(path)
        assert now in (old, new)
        seen.add(len(now[0][0]))
    assert deaths > 5
    match_all(FeatureStore.open(path))
    assert not litter(path)


def test_a_replacement_that_was_cut_in_half_is_read_and_finished(tmp_path):
    """On a file system that can't exchange two folders, a kill between two renames leaves the old one's name."""
    path = tmp_path / "cache"
    mine_negatives(make_store(path, clips=12), k=1)
    expected = mined(path)
    (path / "negatives/hard").rename(path / "negatives/.hard.0123abcd.old")
    assert mined(path) == expected
    StoreWriter.open(path).finish()
    assert mined(path) == expected
    assert not litter(path)


def test_only_avems_own_leftovers_without_an_owner_are_swept(tmp_path):
    path = tmp_path / "cache"
    make_store(path, clips=8)
    array = path / "video/tiny-video/features"
    made = [
        ".clips.parquet.0123abcd.tmp",
        "ledger/.root.json.0123abcd.tmp",
        "ledger/video/.000001.json.0123abcd.tmp",
        "negatives/.hard.0123abcd.tmp/video/zarr.json",
        "video/.zarr.json.0123abcd.tmp",
        "video/tiny-video/pooled/.zarr.json.0123abcd.tmp",
        "video/tiny-video/features/.c.1.0.0.0.0123abcd.tmp",
    ]
    owned = "video/tiny-video/features/.c.0.0.0.0.0123abcd.tmp"
    foreign = [".notes.tmp", "thesis.tmp", ".clips.parquet.mine.tmp", "video/tiny-video/features/notes.0123abcd.tmp"]
    for name in [*made, owned, *foreign]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x")
    locks = ShardLocks(path / "ledger/video.lock")
    assert locks.take(0)
    StoreWriter.open(path).add_clips(clip_records(8), root=path.parent)
    assert [name for name in made if (path / name).exists()] == []
    assert all((path / name).exists() for name in [owned, *foreign])
    locks.close()
    sweep(path)
    assert not (path / owned).exists()
    assert array.is_dir()


def test_exports_are_replaced_at_once(tmp_path):
    store = make_store(tmp_path / "cache", clips=6)
    out = tmp_path / "out"
    export_hdf5(store, out)
    larger = make_store(tmp_path / "larger", clips=9)
    chance, deaths = random.Random(3), 0
    for _ in range(8):
        deaths += killed_after(chance.randrange(2500), lambda: export_hdf5(larger, out))
        for kind in ("video", "audio"):
            with h5py.File(out / f"{kind}.h5") as file:
                assert len(file["features"]) in (6, 9)
    assert deaths
    export_hdf5(larger, out)
    assert sorted(item.name for item in out.iterdir()) == [".avem.json", "audio.h5", "video.h5"]


def test_a_killed_import_is_finished_by_the_next(tmp_path):
    store = make_store(tmp_path / "cache", clips=9)
    files = export_hdf5(store, tmp_path / "out")
    path, chance, deaths = tmp_path / "again", random.Random(2), 0
    for _ in range(6):
        deaths += killed_after(chance.randrange(3500), lambda: import_hdf5(files, path))
        if (path / "zarr.json").is_file():
            assert FeatureStore.open(path).verify() == []
    again = import_hdf5(files, path)
    assert deaths
    assert again.clips.equals(store.clips)
    assert np.array_equal(again.video(range(9)), store.video(range(9)))
    assert not litter(path)


def test_a_score_cache_waits_for_a_sweep(tmp_path):
    """The temporary file of its fingerprint is not there while another writer sweeps the store."""
    path = tmp_path / "cache"
    make_store(path, clips=8)
    opening = threading.Thread(target=ScoreCache, args=(path, {"weights": "abc"}))
    with store_lock(path / "ledger", exclusive=True):
        opening.start()
        opening.join(0.3)
        assert opening.is_alive()
        assert [*path.glob("logprobs/*/*"), *path.glob("logprobs/*/.*.tmp")] == []
    opening.join()
    assert len([*path.glob("logprobs/*/fingerprint.json")]) == 1
