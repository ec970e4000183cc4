"""Writers killed at any moment lose at most the shards in flight, and a rerun completes the store."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avem.cache import FeatureStore
from avem.errors import MissingFileError
from tests.cache.helpers import audio_spec, row_values, video_spec
from tests.cache.kill_writer import write_everything

ROOT = Path(__file__).parents[2]
CLIPS = 40


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
    return count


def write_and_die(path, clips, at_line):
    """Write in a forked process that kills itself at the n-th line it runs of the store's code; True if it died."""
    child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            if not frame.f_code.co_filename.startswith((str(ROOT / "cache"), str(ROOT / "avem"))):
                return None
            lines += 1
            if lines > at_line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        status = 1
        try:
            write_everything(path, clips)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def test_kills_at_every_stage_of_a_commit(tmp_path):
    chance, deaths = random.Random(5), 0
    for _ in range(8):
        path, before = tmp_path / f"{deaths}" / "cache", 0
        for _ in range(6):
            deaths += write_and_die(path, 7, at_line=chance.randrange(3000))
            now = committed_rows(path)
            assert now >= before
            before = now
        write_everything(path, 7)
        assert committed_rows(path) == 14
        assert not list(path.rglob("*.tmp"))
    assert deaths > 20


@pytest.mark.slow
def test_several_writers_killed_at_random_moments(tmp_path):
    path, chance, before = tmp_path / "cache", random.Random(4), 0
    command = [sys.executable, "-m", "tests.cache.kill_writer", str(path), str(CLIPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start():
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)

    for _ in range(3):
        processes = [start() for _ in range(2)]
        for process in processes:
            assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.15))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        now = committed_rows(path)
        assert now >= before
        before = now
    processes = [start() for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in processes] == [b"ready\ndone\n"] * 2
    assert committed_rows(path) == 2 * CLIPS
