"""Two commands at once in one folder: the second is told so in one sentence, and nothing is written twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avem.guards.output_kinds import LOCK
from avem.records import Question
from tests.train.training_kit import CLIPS, Kit, make_kit

GRID = """
title = "One run"
columns = ["loss"]
seeds = [0]
settings = { max_steps = 4, batch_size = 2, trackers = "none", reliance_rows = 0 }
[[runs]]
name = "whole"
"""
OPTIONS = ("(A) a loud voice", "(B) a soft voice", "(C) rain", "(D) a laugh")


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("kit"))
    asked = [
        Question(f"q{clip}-{number}", f"{clip:03d}.mp4", "reasoning_basic_audio", f"Which {number}?", OPTIONS, "A")
        for clip in range(CLIPS)
        for number in range(4)
    ]
    (kit.store.parent / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    (kit.store.parent / "grid.toml").write_text(GRID)
    return kit


def words(kit: Kit, name: str, out: Path) -> list[str]:
    """A command with all that it reads."""
    model, store, questions = str(kit.model), str(kit.store), str(kit.store.parent / "q.json")
    reads = ["--cache", store, "--model", model]
    asks = [*reads, "--questions", questions, "--device", "cpu"]
    train = [*reads, "--prefs", str(kit.prefs), "--set", "device=cpu", "--set", "trackers=none", "--set", "epochs=4"]
    command = {
        "train": ["train", *train],
        "bench": ["bench", "emorealm", *asks, "--generate"],
        "probe": ["probe", "swap", *asks],
        "sweep": ["sweep", str(kit.store.parent / "grid.toml"), *reads, "--prefs", str(kit.prefs), "--device", "cpu"],
    }[name]
    return [sys.executable, "-m", "avem", *command, "--out", str(out)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "bench", "probe", "sweep"])
def test_the_second_is_told_and_the_first_is_undisturbed(kit, tmp_path, name):
    out = tmp_path / "out"
    command = words(kit, name, out)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        while not any(lock.read_text() for lock in out.rglob(f"*{LOCK}")):  # its text is written once it is held
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # so that it is still there when the second comes
        try:
            second = subprocess.run(command, capture_output=True, text=True)
        finally:
            first.send_signal(signal.SIGCONT)
        said = first.communicate()[0]
    assert first.returncode == 0, said
    assert second.returncode == 2, second.stderr
    sentences = [line for line in second.stderr.splitlines() if line.startswith("avem: ")]
    assert len(sentences) == 1
    assert f"(process {first.pid} on " in sentences[0]
    assert "Traceback" not in second.stderr
    logs = [log for log in out.rglob("*.jsonl") if log.name in ("metrics.jsonl", "answers.jsonl", "swap.jsonl")]
    assert logs
    for log in logs:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        keys = [line["step"] if log.name == "metrics.jsonl" else json.dumps(line, sort_keys=True) for line in lines]
        assert len(keys) == len(set(keys)) > 0
