"""What long work says of itself."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

from rich.console import Console
from rich.progress import Progress

from avem import progress
from avem.progress import Stage, stage


def test_steps_of_an_earlier_run_say_nothing_about_the_rate(monkeypatch, caplog):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with caplog.at_level(logging.INFO, "avem"), stage("train", 1000, "steps") as bar:
        bar.go_on_after(800)
        clock.now = 20.0
        bar.advance(10, note="loss 0.5")
    assert caplog.messages == ["train 810/1000 steps, 0.5/s, 380 s left loss 0.5"]


def test_on_a_terminal_they_are_done_and_make_no_rate():
    bar = Progress(console=Console(file=io.StringIO()))
    Stage("train", 1000, "steps", bar).go_on_after(800)
    (task,) = bar.tasks
    assert task.completed == 800
    assert task.speed is None


def test_items_that_are_all_different_make_no_rate(monkeypatch, caplog):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with caplog.at_level(logging.INFO, "avem"), stage("Checking", 5, "") as bar:
        clock.now = 20.0
        bar.advance(0, note="computing")
    assert caplog.messages == ["Checking 0/5 computing"]


def test_slow_work_has_a_rate_that_is_not_zero(monkeypatch, caplog):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    bar = Progress(console=Console(file=io.StringIO()))
    drawn = Stage("run", 10, "jobs", bar)
    with caplog.at_level(logging.INFO, "avem"), stage("run", 10, "jobs") as logged:
        for each in (drawn, logged):
            clock.now = 48.0
            each.advance()
    assert caplog.messages == ["run 1/10 jobs, 1.2/min, 432 s left "]
    assert bar.tasks[0].fields["rate"] == "1.2 jobs/min"
