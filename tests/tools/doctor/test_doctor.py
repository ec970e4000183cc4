"""`avem doctor`: what it tries is tried, what fails is named, secrets stay secret, and the text fits a terminal."""

from __future__ import annotations

import json
import re

import pytest
import torch

from avem.cli import main
from avem.errors import MissingFileError
from avem.tools.doctor import DoctorOptions, Finding, Report, examine
from avem.tools.doctor import run as doctor_run
from avem.tools.doctor import step as doctor_step
from avem.tools.doctor.findings import PURPOSE, Verdict
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
    monkeypatch.setattr("avem.tools.doctor.machine.PACKAGES", {"torch": "computes", "no-such-package": "helps"})
    found = {finding.name: finding for finding in software()}
    assert found["torch"].value.split() == [torch.__version__, "computes"]
    assert found["no-such-package"].verdict == Verdict.PROBLEM


def test_a_kernel_that_fails_is_named(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("No available kernel.")

    monkeypatch.setattr("avem.tools.doctor.kernels.scaled_dot_product_attention", broken)
    attention = next(finding for finding in kernels(CPU) if finding.name == "attention")
    assert attention.verdict == Verdict.PROBLEM
    assert attention.value == "none works"


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
            Finding("machine", "memory", "4 GiB " + "and more " * 12, Verdict.NOTE, long),
            Finding("machine", "cores", "4", label="processor cores"),
            Finding("kernels", "attention", "none works", Verdict.PROBLEM, "Install the other build."),
        )
    )
    lines = report.lines()
    assert max(len(line) for line in lines) <= 80
    assert lines[lines.index("Remarks") + 1] == "  [1] Problem: Install the other build."
    assert lines[lines.index("Remarks") + 2].startswith("  [2] Do one thing")
    assert "  attention           none works [1]" in lines
    assert "  processor cores     4" in lines
    assert next(line for line in lines if line.endswith("[2]")), "the remark's number is behind what it is about"
    assert [finding.name for finding in report.problems] == ["attention"]
    assert "can't be relied on here: 1 thing that it needs does not work. See remarks [1]" in " ".join(lines[:3])
    assert "then run `avem doctor` again" in lines[-1]


def test_a_report_says_what_avem_is_and_what_to_do_next():
    lines = Report((Finding("machine", "GPU", "none found", Verdict.NOTE, "Buy one."),)).lines()
    assert lines[:2] == [PURPOSE, "It works on this computer. See remark [1] below."]
    assert "avem demo" in " ".join(lines[lines.index("What to do next") :])
    assert Report(()).lines()[1] == "It works on this computer."


def test_every_line_of_this_machine_is_explained(small_step):
    """No program without its purpose, no number without a judgement, no mark without its remark."""
    report = examine(DoctorOptions("cpu"))
    assert all(finding.value.split()[1:] for finding in report.findings if finding.section == "software")
    text = "\n".join(report.lines())
    assert max(map(len, text.splitlines())) <= 80
    marks = [line for line in text.splitlines() if re.search(r"\S \[\d+\]$", line)]
    assert len(marks) == len(report.remarks) == len(re.findall(r"^  \[\d+\] ", text, re.MULTILINE))
    said = {finding.name: finding.value for finding in report.findings}
    assert re.search(r"fast enough|slow", said["7B row"])
    assert re.search(r"fast enough|slow", said["video/doctor"])
    assert re.search("is good", said["of the best speed"])


def test_how_long_a_row_takes_is_judged(monkeypatch):
    said = {}
    for speed in (5e10, 1e12, 5e12, 5e14):
        monkeypatch.setattr("avem.tools.doctor.kernels.matmul_peak", lambda *_, speed=speed: speed)
        said[speed] = next(finding.value for finding in kernels(CPU) if finding.name == "7B row")
    assert said[5e10].startswith("at best about 20 minutes") and "too slow" in said[5e10]  # noqa: PT018
    assert said[1e12].startswith("at best about 60 seconds") and "can be trained" in said[1e12]  # noqa: PT018
    assert said[5e14].startswith("at best about 0.1 seconds") and "fast enough" in said[5e14]  # noqa: PT018


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
