"""The GPU benchmark's clock: what is predicted, what no longer fits, what fails, and what a stopped run leaves."""

from __future__ import annotations

import json
import time

import pytest
import torch

from avem.tools.project.benchmarks.gpu.budget import START_SHARE, Budget, Part, is_out_of_memory
from avem.tools.project.benchmarks.gpu.results import Results, Status, Table


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def part(self, name, operations, seconds, **more):
        def run():
            self.now += seconds
            return Table("Steps", ({"side": name, "s a row": seconds},))

        return Part(name, run, lambda: operations, **more)


def by_name(results):
    return {outcome.name: outcome for outcome in results.outcomes}


def test_each_part_is_predicted_from_the_one_before(tmp_path):
    """30 operations a second are assumed at first; then 100 / 20 s, then 10 / 1 s are known."""
    clock, results = Clock(), Results(tmp_path, {})
    parts = [clock.part("a", 100.0, 20.0), clock.part("b", 10.0, 1.0), clock.part("c", 30.0, 6.0)]
    Budget(60.0, 30.0 / START_SHARE, clock).run(parts, results)
    predicted = [outcome.predicted_s for outcome in results.outcomes]
    assert predicted == pytest.approx([100 / 30, 10 / 5, 30 / 10])


def test_what_does_not_fit_is_named_and_what_fits_still_runs(tmp_path):
    clock, results = Clock(), Results(tmp_path, {})
    parts = [clock.part("a", 10.0, 5.0), clock.part("large", 1000.0, 500.0), clock.part("small", 10.0, 5.0)]
    Budget(60.0, 2.0 / START_SHARE, clock).run(parts, results)
    found = by_name(results)
    assert [found[name].status for name in ("a", "large", "small")] == [Status.RAN, Status.NOT_RUN, Status.RAN]
    assert found["large"].reason == "500 s predicted and 55 s left"
    assert "* large: not run, 500 s predicted and 55 s left" in (tmp_path / "results.md").read_text()


def test_what_computes_little_is_predicted_from_its_like(tmp_path):
    clock, results = Clock(), Results(tmp_path, {})
    parts = [clock.part("open", 0.0, 30.0), clock.part("open more", 0.0, 40.0, like="open", ratio=1.5)]
    Budget(70.0, 1.0, clock).run(parts, results)
    assert by_name(results)["open more"].status == Status.NOT_RUN
    assert by_name(results)["open more"].predicted_s == 45.0


def test_a_failing_part_is_named_and_those_that_need_it_are_left_out(tmp_path):
    def no_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore.")

    def wrong():
        raise ValueError("no kernel")

    clock, results = Clock(), Results(tmp_path, {}, ["full", "wrong", "needs it", "last", "never"])
    parts = [
        Part("full", no_memory, lambda: 0.0),
        Part("wrong", wrong, lambda: 0.0),
        clock.part("needs it", 1.0, 1.0, needs="full"),
        clock.part("last", 1.0, 1.0),
    ]
    Budget(60.0, 1e9, clock).run(parts, results)
    found = by_name(results)
    assert (found["full"].status, found["wrong"].status) == (Status.NO_MEMORY, Status.FAILED)
    assert found["needs it"].reason == "it needs full"
    assert found["last"].status == Status.RAN
    assert [outcome.name for outcome in results.failures] == ["wrong"]
    text = (tmp_path / "results.md").read_text()
    assert "* full: out of memory, OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB." in text
    assert "* never: not run, its turn has not come" in text


def test_a_stopped_run_leaves_what_it_has(tmp_path):
    clock, results = Clock(), Results(tmp_path, {"device": "cuda"}, ["a", "b"])

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Budget(60.0, 1e9, clock).run([clock.part("a", 1.0, 2.0), Part("b", stop, lambda: 0.0)], results)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [part["name"] for part in kept["parts"]] == ["a"]
    assert kept["parts"][0]["rows"] == [{"side": "a", "s a row": 2.0}]
    assert kept["waiting"] == ["b"]


def test_a_part_that_overruns_its_prediction_is_stopped(tmp_path):
    def endless():
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001 - as libraries do
                raise AssertionError("a library must not take it for its own failure") from None

    results = Results(tmp_path, {})
    Budget(0.2, 1e9).run([Part("endless", endless, lambda: 0.0), Part("next", endless, lambda: 0.0)], results)
    assert [outcome.status for outcome in results.outcomes] == [Status.NOT_RUN, Status.NOT_RUN]
    assert results.outcomes[0].reason.startswith("stopped")
    assert results.outcomes[1].reason == "0 s predicted and 0 s left"


def test_parts_of_one_title_are_one_table(tmp_path):
    clock, results = Clock(), Results(tmp_path, {})
    Budget(60.0, 1e9, clock).run([clock.part("a", 1.0, 0.5), clock.part("b", 1.0, 1234.5678)], results)
    lines = results.markdown().splitlines()
    start = lines.index("**Steps**")
    assert lines[start + 2 : start + 6] == ["| side | s a row |", "|---|---|", "| a | 0.5 |", "| b | 1235 |"]


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("expected all tensors on one device"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_has_several_words(error, full):
    assert is_out_of_memory(error) == full
