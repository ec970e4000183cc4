"""`avem doctor`: what it tries is tried, what fails is named, secrets stay secret, and the text fits a terminal."""

from __future__ import annotations

import json

import pytest
import torch

from avem.cli import main
from avem.errors import MissingFileError
from avem.tools.doctor import Finding, Report
from avem.tools.doctor import run as doctor_run
from avem.tools.doctor import step as doctor_step
from avem.tools.doctor.findings import Verdict
from avem.tools.doctor.kernels import kernels
from avem.tools.doctor.machine import machine, software
from avem.tools.doctor.step import packed_step
from avem.tools.doctor.store import read_speed
from avem.tools.project.benchmarks.step_kit import Shape
from tests.train.training_kit import make_store

CPU = torch.device("cpu")


@pytest.fixture
def small_step(monkeypatch):
    monkeypatch.setitem(doctor_step.SHAPES, "cpu", Shape(128, 1, 2, 1, 4, 4))


def test_the_report_of_this_machine(small_step, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["avem", "doctor", "--device", "cpu", "--format", "json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    names = {(each["section"], each["name"]) for each in found["findings"]}
    assert {("software", "torch"), ("machine", "GPU"), ("kernels", "attention"), ("step", "loss")} <= names
    assert found["problems"] == 0
    assert any(each["section"] == "store" and each["numbers"]["gb_per_s"] > 0 for each in found["findings"])


def test_the_step_compares_losses_and_names_a_difference(small_step, monkeypatch):
    speed, share, loss = packed_step(CPU)
    assert speed.numbers["ratio"] == pytest.approx(speed.numbers["plain_s"] / speed.numbers["packed_s"])
    assert share.numbers["share"] > 0
    assert loss.verdict == Verdict.OK
    assert loss.numbers["difference"] < 1e-4
    plain_side = doctor_step.Bench.plain_side

    def off(bench, name, rows):
        run = plain_side(bench, name, rows)

        def wrong():
            run()
            bench.losses[name] += 0.01

        return wrong

    monkeypatch.setattr(doctor_step.Bench, "plain_side", off)
    loss = list(packed_step(CPU))[2]
    assert loss.verdict == Verdict.PROBLEM
    assert "Don't train here" in loss.advice


def test_a_missing_package_is_a_problem(monkeypatch):
    monkeypatch.setattr("avem.tools.doctor.machine.PACKAGES", ("torch", "no-such-package"))
    found = {finding.name: finding for finding in software()}
    assert found["torch"].value == torch.__version__
    assert found["no-such-package"].verdict == Verdict.PROBLEM


def test_a_kernel_that_fails_is_named(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("No available kernel.")

    monkeypatch.setattr("avem.tools.doctor.kernels.scaled_dot_product_attention", broken)
    attention = next(finding for finding in kernels(CPU) if finding.name == "attention")
    assert attention.verdict == Verdict.PROBLEM
    assert attention.value == "none"


def test_a_store_of_ones_own_is_read(tmp_path):
    make_store(tmp_path / "cache")
    found = {finding.name: finding for finding in read_speed(tmp_path / "cache")}
    assert {name.split("/")[0] for name in found} == {"video", "audio"}
    assert {finding.numbers["rows"] for finding in found.values()} == {8, 7}, "the silent clip has no audio"
    with pytest.raises(MissingFileError):
        list(read_speed(tmp_path))


def test_a_machine_without_a_gpu_is_told_what_that_means(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert any(finding.name == "GPU" and finding.advice for finding in machine(CPU))


def test_text_fits_80_columns_and_problems_come_first():
    long = "Do " + "one thing and another " * 8 + "soon."
    report = Report(
        (
            Finding("machine", "memory", "4 GiB", Verdict.NOTE, long),
            Finding("kernels", "attention", "none", Verdict.PROBLEM, "Install the other build."),
        )
    )
    lines = report.lines()
    assert max(len(line) for line in lines) <= 80
    assert lines[lines.index("What to do") + 1] == "  * Install the other build."
    assert [finding.name for finding in report.problems] == ["attention"]
    assert "1 thing that avem needs does not work." in lines
    assert Report(()).lines() == ["Everything that avem needs works here."]


def test_secrets_are_masked_and_a_problem_is_exit_status_3(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh12345678")
    found = Finding("store", "s3", "s3://bucket?token=hf_abcdefgh12345678", Verdict.PROBLEM, "Use hf_abcdefgh12345678.")
    monkeypatch.setattr(doctor_run, "software", lambda: iter([found]))
    for name in ("machine", "kernels", "read_speed", "packed_step"):
        monkeypatch.setattr(doctor_run, name, lambda *_: iter(()))
    for form in ("text", "json"):
        monkeypatch.setattr("sys.argv", ["avem", "doctor", "--format", form])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 3
        assert "hf_abcdefgh" not in capsys.readouterr().out
