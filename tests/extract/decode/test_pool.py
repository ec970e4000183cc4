"""The pool answers in order and survives workers that crash, hang or are replaced."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from avem.extract.decode import pool as pool_module
from avem.extract.decode.decord_reader import decord_sound
from avem.extract.decode.pool import DecodePool
from avem.extract.decode.task import DecodeTask
from avem.extract.decode.wants import Evenly, Pictures, Square
from avem.extract.decode.worker import decode_clip

WANTED = (Pictures(Evenly(4), Square(32)),)


def tasks_of(paths):
    return [DecodeTask(row, str(path), str(path), ("video", "audio"), WANTED, 16000) for row, path in enumerate(paths)]


@pytest.fixture
def clips(tmp_path, make_clip):
    return [make_clip(tmp_path / f"{index}.mp4", frames=3 + index, seed=index) for index in range(6)]


def test_answers_come_in_the_order_of_the_tasks(clips):
    tasks = tasks_of(clips * 2)
    with DecodePool(2) as pool:
        answers = list(pool.map(tasks, window=4))
    assert [task for task, _ in answers] == tasks
    for task, clip in answers:
        expected = decode_clip(task)
        assert np.array_equal(clip.pictures[0], expected.pictures[0])
        assert np.array_equal(clip.sound, expected.sound)
        assert clip.total_frames == 3 + task.row % 6


def test_a_folder_of_avems_name_in_the_current_folder_does_no_harm(clips, tmp_path, monkeypatch):
    """As in a clone beside an installed avem; the decoders are processes of their own."""
    (tmp_path / "here" / "avem").mkdir(parents=True)
    (tmp_path / "here" / "avem" / "__init__.py").write_text("raise ImportError('another avem')")
    monkeypatch.chdir(tmp_path / "here")
    with DecodePool(1) as pool:
        assert [clip.total_frames for _, clip in pool.map(tasks_of(clips[:2]), window=2)] == [3, 4]
    if importlib.util.find_spec("decord"):
        assert decord_sound(clips[0], 60).samples.size


def test_no_more_tasks_are_taken_than_the_window_allows(clips):
    taken = []

    def source():
        for task in tasks_of(clips * 4):
            taken.append(task.row)
            yield task

    with DecodePool(2) as pool:
        for done, _ in enumerate(pool.map(source(), window=3), start=1):
            assert len(taken) <= done + 3


def test_a_crash_is_one_failed_stream(clips):
    with DecodePool(2) as pool:
        victim = pool._workers[0].process.pid
        os.kill(victim, signal.SIGSTOP)
        blow = threading.Timer(0.5, lambda: (os.kill(victim, signal.SIGSEGV), os.kill(victim, signal.SIGCONT)))
        blow.start()
        answers = [clip for _, clip in pool.map(tasks_of(clips * 2), window=12)]
    failed = [clip for clip in answers if clip.video_error]
    assert [clip.video_error for clip in failed] == ["the decoder crashed (SIGSEGV)"]
    assert all(clip.sound is not None and not clip.sound_error for clip in answers)
    assert sum(clip.pictures is not None for clip in answers) == 11


def test_a_hanging_worker_is_killed(clips):
    with DecodePool(2, timeout_s=1000) as pool:
        hanging = pool._workers[0]
        os.kill(hanging.process.pid, signal.SIGSTOP)

        def let_time_pass():
            while len(pool._answers) < 4:
                time.sleep(0.05)
            hanging.since -= 2000

        threading.Thread(target=let_time_pass, daemon=True).start()
        answers = [clip for _, clip in pool.map(tasks_of(clips), window=12)]
    assert [clip.video_error for clip in answers if clip.video_error] == ["decoding took longer than 1000 s"]
    assert all(clip.sound is not None for clip in answers)
    assert sum(clip.pictures is not None for clip in answers) == 5


def test_workers_that_grew_are_replaced(clips, monkeypatch):
    monkeypatch.setattr(pool_module, "CLIPS_PER_WORKER", 2)
    monkeypatch.setattr(pool_module, "WORKER_BYTES", 1)
    with DecodePool(1) as pool:
        first = pool._workers[0].process.pid
        answers = [clip for _, clip in pool.map(tasks_of(clips), window=12)]
        assert pool._workers[0].process.pid != first
    assert all(clip.pictures is not None for clip in answers)


def test_an_error_in_the_source_reaches_the_caller(clips):
    def source():
        yield tasks_of(clips)[0]
        raise ValueError("the source broke")

    with DecodePool(1) as pool, pytest.raises(ValueError, match="the source broke"):
        list(pool.map(source(), window=4))


def test_no_worker_outlives_the_pool(clips):
    with DecodePool(2) as pool:
        next(pool.map(tasks_of(clips), window=4))
        workers = [worker.process for worker in pool._workers]
    assert all(process.poll() is not None for process in workers)


def test_workers_do_not_load_torch():
    code = "import sys, avem.extract.decode.worker; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
