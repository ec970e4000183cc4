"""Sweeps: grids are read and refused, runs are done once, table and figure hold what was measured."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from avem.commands.sweep import sweep
from avem.errors import AvemError, DataError, MissingFileError, SettingError
from avem.evaluate.paper import facts
from avem.tools.sweep import run as sweep_run
from avem.tools.sweep.grid import for_family, grid_names, read_grid
from avem.tools.sweep.measures import bench_measures
from avem.tools.sweep.outcome import make_sheet, write_outcome
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import RunResult, SweepOptions, run_sweep
from avem.train import load_model
from avem.train.settings.config import PreferenceConfig
from avem.train.settings.sources import build_config
from tests.train.training_kit import CLIPS, Kit, make_kit

PLACES = {"cache": "cache", "model": "model", "out": "out", "prefs": "prefs"}
SMALL = """
title = "Two ways"
columns = ["loss", "accuracy"]
seeds = [0, 1]
settings = { max_steps = 1, batch_size = 4, trackers = "none", reliance_rows = 0 }
[[runs]]
name = "whole"
paper = [0.5, 0.9]
[[runs]]
name = "w/o TPD"
preset = "no-tpd"
[[curves]]
name = "gamma"
options = ["gamma_tpd"]
values = [[0.0], [0.2]]
"""


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def grid_file(tmp_path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


def options(kit: Kit, out: Path, **changes) -> SweepOptions:
    return SweepOptions(cache=kit.store, prefs=kit.prefs, model=str(kit.model), out=out, device="cpu", **changes)


@pytest.mark.parametrize("name", grid_names())
def test_every_grid_of_the_paper_is_valid(name):
    grid = read_grid(name)
    for run in grid.runs:
        build_config(PreferenceConfig, {**PLACES, **grid.settings, **run.settings})
    assert len(grid.runs) >= (1 if name == "one-order" else 2)  # its run differs from seed to seed


BLOCKS = {
    "table2": (("dfew_uar", "dfew_war", "ravdess_uar", "ravdess_war", "mer2023_f1"), 2),
    "table3": (("basic_audio", "basic_video", "agreement_f1", "stress_audio_f1", "stress_video_f1"), 13),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_both_reference_models_of_the_paper_are_in_the_grid(name):
    """Figures are those of the facts, which were copied from the paper's tables; one cell of Table 13 is Table 3's."""
    columns, table = BLOCKS[name]
    grid = read_grid(name)
    rows = facts(table)[-8:]
    (block,) = grid.blocks
    own = {run.name: run.paper for run in grid.rows}
    for model, figures, printed in (("The paper's base", own, rows[:4]), ("EmotionLLaMA*", block.paper, rows[4:])):
        assert printed[0]["model"] == model
        for run, row in zip(("base", "Naive-DPO", "Vista-DPO", "AVEm-DPO"), printed, strict=True):
            expected = [float(row[column]) for column in columns]
            if (table, model, run) == (13, "EmotionLLaMA*", "AVEm-DPO"):
                expected[1] = 89.9
            assert list(figures[run][: len(columns)]) == expected


def test_a_sweep_of_the_other_family_has_its_figures_beside_the_runs():
    grid = read_grid("table3")
    swapped = for_family(grid, "emotion_llama")
    assert for_family(grid, "avere") is grid
    assert "EmotionLLaMA*" in swapped.title
    results = [RunResult("AVEm-DPO", 0, {"basic_audio": 70.0}, Path("x")), RunResult("base", 0, {}, Path("x"))]
    for each, beside, below in ((grid, "77.9", "76.5"), (swapped, "76.5", "77.9")):
        sheet = make_sheet(each, results)
        column = sheet.header.index("paper: Basic, audio")
        shown = {row[0]: row for row in sheet.rows}
        assert shown["AVEm-DPO"][column] == beside
        other = next(row for name, row in shown.items() if name.endswith(" + AVEm-DPO"))
        assert (other[1], other[column]) == ("paper", below)
        spurious = sheet.header.index("paper: Spur.")
        assert (other[spurious] == "") == (each is grid), "the paper has no subtasks of EmotionLLaMA*"


def test_the_papers_tables_and_figure_are_there():
    assert {"table5", "table17", "table18", "fig11"} <= set(grid_names())
    assert {run.curve for run in read_grid("fig11").runs} >= {"gamma_tpd", "lambda_av"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither runs nor curves"),
        ("[[runs]]\nsettings = {}", "run 1 has no name"),
        ('[[runs]]\nname = "a"\n[[runs]]\nname = "a"', "two runs with the name a"),
        ('columns = ["bsic"]', "column bsic"),
        ('[[runs]]\nname = "a"\ncolour = 1', "unknown field colour"),
        ('[[runs]]\nname = "a"\ndecoding = "greedy"', "decoding greedy"),
        ('columns = ["loss"]\n[[runs]]\nname = "a"\npaper = [1, 2]', "2 figures of the paper for 1 columns"),
        ('seeds = [-1]\n[[runs]]\nname = "a"', "whole numbers from 0"),
        ('[runs]\nname = "a"', "is 'name', not a table of settings"),
        ('[[base]]\n[[runs]]\nname = "a"', "base is .*, not a table of settings"),
        ('[base]\n[[runs]]\nname = "base"', "two runs with the name base"),
        ('columns = ["loss"]\n[[runs]]\nname = "a"\npaper = 85.2', "not written as a grid is"),
        ('columns = ["loss"]\n[[runs]]\nname = "a"\npaper = ["b"]', "not written as a grid is"),
        ('[[runs]]\nname = "a"\nsettings = "b"', "not written as a grid is"),
        ('[[runs]]\nname = "a"\n[[blocks]]\npaper = {}', "block 1 has no model"),
        ('[[runs]]\nname = "a"\n[[blocks]]\nmodel = "M"\npaper = { b = [] }', "figures of b, which is no run"),
        ('[[runs]]\nname = "a"\n[[blocks]]\nmodel = "M"\npaper = { a = [1.0] }', "1 figures of a for 0 columns"),
        ('[[curves]]\nname = "a"\noptions = []\nvalues = [[]]', "as many values as there are options"),
        ('[[curves]]\nname = "a"\noptions = ["beta"]\nvalues = [[1.0, 2.0]]', "as many values as there are options"),
    ],
)
def test_a_broken_grid_is_refused(tmp_path, text, message):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_grid(str(tmp_path / "grid.toml"))


def test_unknown_grids_presets_and_runs_say_what_there_is(kit, grid_file, tmp_path):
    with pytest.raises(SettingError, match="no grid table6; choose one of adapters, corrections, fig11"):
        read_grid("table6")
    with pytest.raises(SettingError, match="has no run hole; it has whole"):
        run_sweep(read_grid(str(grid_file)), options(kit, tmp_path, only=("hole",)))
    with pytest.raises(SettingError, match="--questions"):
        run_sweep(read_grid("table5"), options(kit, tmp_path))
    with pytest.raises(MissingFileError, match="give your own, or one of adapters, corrections"):
        read_grid(str(tmp_path / "none.toml"))
    with pytest.raises(SettingError, match="no prompt style 'letter'"):
        run_sweep(read_grid(str(grid_file)), options(kit, tmp_path / "out", style="letter"))
    with pytest.raises(SettingError, match="is a file; give a folder with --out"):
        run_sweep(read_grid(str(grid_file)), options(kit, grid_file))
    assert not (tmp_path / "out").exists()


def test_runs_are_trained_once_and_found_again(kit, grid_file, tmp_path, monkeypatch):
    trained = []
    real = sweep_run.train_preferences
    monkeypatch.setattr(sweep_run, "train_preferences", lambda config: (trained.append(config), real(config))[1])
    grid = read_grid(str(grid_file))
    first = run_sweep(grid, options(kit, tmp_path / "out"))
    assert [(result.run, result.seed) for result in first] == [
        (name, seed) for name in ("whole", "w/o TPD", "gamma = 0.0", "gamma = 0.2") for seed in (0, 1)
    ]
    # "w/o TPD" is the curve's first point and "whole" its second
    assert len({config.out for config in trained}) == len(trained) == 4
    finished = {config.out / "final" for config in trained}
    times = {path: path.stat().st_mtime_ns for path in finished}
    assert run_sweep(grid, options(kit, tmp_path / "out")) == first
    assert {path: path.stat().st_mtime_ns for path in finished} == times


def test_command_writes_table_figure_and_raw_results(kit, grid_file, tmp_path):
    app = typer.Typer()
    app.command()(sweep)
    arguments = [
        str(grid_file),
        "--cache",
        str(kit.store),
        "--prefs",
        str(kit.prefs),
        "--model",
        str(kit.model),
        "--out",
        str(tmp_path / "out"),
        "--only",
        "whole",
        "--seed",
        "3",
        "--device",
        "cpu",
        "--set",
        "beta=0.2",
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    raw = json.loads((tmp_path / "out" / "small.json").read_text())
    assert [(item["run"], item["seed"]) for item in raw["results"]] == [("whole", 3)]
    assert "| whole |" in (tmp_path / "out" / "small.md").read_text()
    assert "<svg" in (tmp_path / "out" / "small.svg").read_text()
    config = json.loads(next((tmp_path / "out" / "runs").glob("*/config.json")).read_text())
    assert (config["settings"]["beta"], config["settings"]["seed"]) == (0.2, 3)


@pytest.fixture
def questions(tmp_path) -> Path:
    rows = [
        {
            "id": f"q{clip}-{task}",
            "video": f"toy/{clip:03d}",
            "task": task,
            "question": "A cue?",
            "choices": ["(A) Yes", "(B) No"],
            "answer": "AB"[clip % 2],
            "subtask": "spurious",
        }
        for clip in range(CLIPS - 1)
        for task in ("reasoning_stress_audio", "reasoning_stress_video", "modality_agreement")
    ]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    return tmp_path / "questions.json"


def test_a_benchmark_scores_base_and_runs(kit, questions, tmp_path):
    (tmp_path / "grid.toml").write_text(
        'columns = ["agree", "stress", "spurious"]\nsettings = { max_steps = 1, trackers = "none" }\n[base]\n'
        '[[runs]]\nname = "one"\n[[runs]]\nname = "decoded otherwise"\ndecoding = "contrastive"\n'
    )
    grid = read_grid(str(tmp_path / "grid.toml"))
    chosen = options(kit, tmp_path / "out", questions=questions, style="cloze")
    results = run_sweep(grid, chosen)
    assert [result.run for result in results] == ["base", "one", "decoded otherwise"]
    assert results[0].folder != results[2].folder
    assert (results[2].folder / "result.json").is_file()
    assert not list((tmp_path / "out" / "base-contrastive").glob("metrics.jsonl"))  # nothing was trained
    assert all({"agree", "stress", "spurious"} <= result.measures.keys() for result in results)
    assert run_sweep(grid, chosen) == results


def test_a_model_that_was_replaced_is_scored_again(kit, questions, tmp_path):
    shutil.copytree(kit.model, tmp_path / "model")
    (tmp_path / "grid.toml").write_text('[[runs]]\nname = "otherwise"\ndecoding = "contrastive"\n[base]\n')
    grid = read_grid(str(tmp_path / "grid.toml"))
    chosen = options(kit, tmp_path / "out", questions=questions, style="cloze", seeds=(0, 1))
    chosen = replace(chosen, model=str(tmp_path / "model"))
    base, otherwise = run_sweep(grid, chosen)  # one model has one result, whatever the seeds
    assert (base.seed, otherwise.seed) == (0, 0)
    answers = base.folder / "answers.jsonl"
    asked = answers.read_text()
    run_sweep(grid, chosen)
    assert answers.read_text() == asked
    model = load_model(tmp_path / "model")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    shutil.rmtree(tmp_path / "model")
    model.save(tmp_path / "model")
    run_sweep(grid, chosen)
    assert len(answers.read_text().splitlines()) == 2 * len(asked.splitlines())


def test_columns_are_joined_as_the_paper_joins_them():
    score = {
        "tasks": {
            "reasoning_basic_audio": {"accuracy": 70.0, "f1": None},
            "reasoning_basic_video": {"accuracy": 90.0, "f1": None},
            "modality_agreement": {"accuracy": 60.0, "f1": 50.0},
            "reasoning_stress_audio": {"accuracy": 60.0, "f1": 40.0},
            "reasoning_stress_video": {"accuracy": 60.0, "f1": 60.0},
        },
        "subtasks": {
            "reasoning_stress_audio": {"spurious": {"accuracy": 10.0}, "hallucinated": {"accuracy": 30.0}},
            "reasoning_stress_video": {"spurious": {"accuracy": 20.0}},
        },
    }
    assert bench_measures(score) == {
        "basic": 80.0,
        "agree": 50.0,
        "stress": 50.0,
        "spurious": 15.0,
        "hallucinated": 30.0,
        "basic_audio": 70.0,
        "basic_video": 90.0,
        "stress_audio": 40.0,
        "stress_video": 60.0,
    }


def test_table_has_means_deviations_and_the_papers_figures(grid_file, tmp_path):
    grid = read_grid(str(grid_file))
    results = [RunResult("whole", seed, {"loss": 1.0 + seed, "accuracy": 0.5}, tmp_path) for seed in (0, 1)]
    sheet = make_sheet(grid, results)
    assert sheet.header == ("run", "seeds", "loss", "accuracy", "paper: loss", "paper: accuracy")
    assert sheet.rows == (("whole", "2", "1.5 ± 0.71", "0.5 ± 0", "0.5", "0.9"),)
    write_outcome(grid, results, tmp_path)
    assert (tmp_path / "small.svg").is_file()


def test_a_seed_may_have_a_model_of_its_own(kit, grid_file, tmp_path):
    for seed in (0, 1):
        (tmp_path / str(seed)).symlink_to(kit.model)
    chosen = SweepOptions(
        cache=kit.store,
        prefs=kit.prefs,
        model=str(tmp_path / "{seed}"),
        out=tmp_path / "out",
        device="cpu",
        only=("whole",),
    )
    run_sweep(read_grid(str(grid_file)), chosen)
    started = [json.loads(path.read_text())["settings"] for path in (tmp_path / "out").glob("runs/*/config.json")]
    assert {(run["seed"], run["model"]) for run in started} == {(0, str(tmp_path / "0")), (1, str(tmp_path / "1"))}


def test_several_workers_find_what_one_does_and_stop_at_a_fault(tmp_path):
    jobs = [4.0, 9.0, 16.0]
    assert do_all(math.sqrt, jobs, 2, "roots") == do_all(math.sqrt, jobs, 1, "roots") == {4.0: 2, 9.0: 3, 16.0: 4}
    with pytest.raises(ValueError, match="domain"):
        do_all(math.sqrt, [4.0, -1.0, 9.0], 2, "roots")
    commands = [("false",), *(("sh", "-c", f"sleep 0.02; touch {tmp_path / str(place)}") for place in range(200))]
    with pytest.raises(subprocess.CalledProcessError):
        do_all(subprocess.check_call, commands, 2, "commands")
    assert len(list(tmp_path.iterdir())) < 150  # those that had not begun are not done
    with pytest.raises(AvemError, match="run the command again"):
        do_all(os._exit, [1, 2], 2, "exit")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="processes are looked for in /proc")
def test_workers_end_with_the_sweep_that_is_killed(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "def work(job):\n"
        "    Path(sys.argv[1], f'{job}.pid').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    from avem.tools.sweep.pool import do_all\n"
        "    do_all(work, [1, 2], 2, 'job')\n"
    )
    sweep = subprocess.Popen([sys.executable, str(tmp_path / "slow.py"), str(tmp_path)], cwd=tmp_path)
    files = [tmp_path / "1.pid", tmp_path / "2.pid"]
    workers: list[int] = []
    try:
        await_that(lambda: all(file.is_file() and file.read_text() for file in files))
        workers += [int(file.read_text()) for file in files]
        sweep.kill()
        sweep.wait()
        await_that(lambda: not any(map(alive, workers)))
    finally:
        sweep.kill()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def await_that(holds: Callable[[], bool]) -> None:
    """Wait until something holds, two minutes at most."""
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)
