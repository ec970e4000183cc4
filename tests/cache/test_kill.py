"""Writers killed at any line lose at most the shards in flight, and a rerun completes the store."""

import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from avem.cache import FeatureStore
from avem.errors import MissingFileError
from tests.cache.helpers import audio_spec, ragged_values, row_values, video_spec, write_everything

ROOT = Path(__file__).parents[2]


def committed_rows(path):
    """Number of rows committed, after checking that each holds exactly what was written."""
    try:
        store = FeatureStore.open(path)
    except MissingFileError:
        return 0
    assert store.verify() == []
    count = 0
    for kind, spec in (("video", video_spec()), ("audio", audio_spec())):
        if kind in store.kinds:
            good = np.flatnonzero(store.available(kind))
            if len(good):
                expected = row_values(spec, good.tolist())[0].astype(np.float16)
                assert np.array_equal(store.features(kind, good).numpy(), expected)
            count += len(good)
    if "frame/tiny-patches" in store.streams:
        stream = store.stream("frame/tiny-patches")
        good = np.flatnonzero(stream.available).tolist()
        features, _, companions = ragged_values(good)
        for found, expected in zip(stream.rows(good), features, strict=True):
            assert np.array_equal(found.numpy(), expected.astype(np.float16))
        for name, values in companions.items():
            assert all(map(np.array_equal, stream.companion(name, good), values))
        count += len(good)
    return count


def start_writer(path, clips, trace=None):
    """Write in a forked process and return its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            threading.settrace(trace)  # arrays are written on threads of their own
            sys.settrace(trace)
            write_everything(path, clips)
            status = 0
        finally:
            os._exit(status)
    return child


def died(child):
    """Wait for a writer; True if it was killed, False if it finished without error."""
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def suicide_after(lines_left):
    """A trace function that kills the process at the n-th line it runs of the store's code."""

    def trace(frame, event, argument):
        nonlocal lines_left
        if not frame.f_code.co_filename.startswith((str(ROOT / "cache"), str(ROOT / "avem"))):
            return None
        lines_left -= 1
        if lines_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def test_kills_at_every_stage_of_a_commit(tmp_path):
    chance, deaths = random.Random(5), 0
    for run in range(4):
        path, before = tmp_path / f"{run}" / "cache", 0
        for _ in range(6):
            deaths += died(start_writer(path, 7, suicide_after(chance.randrange(4500))))
            now = committed_rows(path)
            assert now >= before
            before = now
        assert not died(start_writer(path, 7))
        assert committed_rows(path) == 21
        assert not list(path.rglob("*.tmp"))
    assert deaths > 10


def test_several_writers_killed_at_random_lines(tmp_path):
    path, chance, before, deaths = tmp_path / "cache", random.Random(4), 0, 0
    for _ in range(12):
        children = [start_writer(path, 40, suicide_after(chance.randrange(20_000))) for _ in range(3)]
        deaths += sum([died(child) for child in children])
        now = committed_rows(path)
        assert now >= before
        before = now
    assert deaths > 5
    assert not any([died(child) for child in [start_writer(path, 40) for _ in range(3)]])
    assert committed_rows(path) == 120
    assert not list(path.rglob("*.tmp"))
