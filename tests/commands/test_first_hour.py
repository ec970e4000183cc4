"""What the command line says to somebody new: what an option was meant as, what settings there are, what comes next."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer._completion_shared import get_completion_script
from typer.testing import CliRunner

from avem.cli import app
from avem.commands.bench.next_steps import next_steps
from avem.commands.completion import repair_zsh
from avem.commands.options import command_line
from avem.commands.train import show_outcome
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.intervals import FEWEST, few_note, interval_text
from avem.sealed.step_log import append_step
from avem.text.differences import fingerprint_differences
from avem.text.sizes import size_text
from avem.train.run.outcome import faint_hint, run_outcome
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.settings.described import described, setting_names

AVEM = str(Path(sys.executable).with_name("avem"))


def avem(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "avem", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["cache", "info", "copy"],
            "'info' takes no argument 'copy'; if it is the store, write --cache copy; try --help.",
        ),
        (["train", "rows.jsonl"], "'train' takes no argument 'rows.jsonl'; if it is the store, write --cache"),
        (["doctor", "here"], "'doctor' takes no argument 'here'"),
        (["bench", "emorealm", "--style", "cloz"], "Invalid value for '--style': 'cloz' is not one of"),
    ],
)
def test_an_argument_too_many_and_a_wrong_value(arguments, said):
    status, out, err = avem(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--epochs", "3"], "write --set epochs=3."),
        (["train", "--epochs=3"], "write --set epochs=3."),
        (["train", "--learning-rate", "1e-4", "--dry-run"], "write --set learning_rate=1e-4."),
        (["train", "--gradient-checkpointing"], "write --set gradient_checkpointing=true."),
        (["train", "--no-match-negatives"], "write --set match_negatives=false."),
        (["cache", "logps", "--beta", "0.2"], "write --set beta=0.2."),
        (["train", "--outt", "x"], "try --help."),
        (["extract", ".", "--epochs", "3"], "try --help."),
    ],
)
def test_an_unknown_option_that_is_a_setting_says_so(arguments, said):
    status, out, err = avem(*arguments)
    assert (status, out) == (2, "")
    assert err.rstrip().endswith(said)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "config"),
    [("preference", PreferenceConfig), ("sft", SupervisedConfig), ("projector", SupervisedConfig)],
)
def test_every_setting_is_listed_with_its_default_and_meaning(stage, config):
    done = CliRunner().invoke(app, ["train", "--settings", "--stage", stage])
    lines = {line.split()[0]: line.split() for line in done.output.splitlines()[3:]}
    assert set(lines) == setting_names(config) - {"cache", "model", "out", "prefs", "data"}
    assert all(each.meaning for each in described(config))
    assert lines["epochs"][1] == "1"
    rates = {"preference": "5e-07", "sft": "2e-05", "projector": "0.001"}
    assert lines["learning_rate"][1] == rates[stage]
    assert lines["tune"][1] == {"preference": "lora", "sft": "full", "projector": "none"}[stage]


def test_shells_complete_commands():
    asked = {"_AVEM_COMPLETE": "complete_bash", "COMP_WORDS": "avem tr", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'avem'; from avem.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == ["train"]
    assert "--show-completion" in avem("--help")[1]


def test_sizes_have_the_unit_that_suits_them():
    sizes = [0, 1, 999, 1000, 12_345, 999_949, 999_999, 4_210_688, 52.5e9, 1e15, 2e18]
    assert list(map(size_text, sizes)) == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.00 kB",
        "12.3 kB",
        "1.00 MB",
        "1.00 MB",
        "4.21 MB",
        "52.5 GB",
        "1.00 PB",
        "2,000 PB",
    ]
    assert [size_text(n, binary=True) for n in (1023, 1024, 3 << 29)] == ["1023 bytes", "1.00 KiB", "1.50 GiB"]


def test_two_fingerprints_are_told_apart_by_what_differs():
    there = {"encoder": "a", "weights_sha256": "1" * 64, "preprocessing": {"size": 224, "mean": [1.0, 2.0]}}
    here = {"encoder": "a", "weights_sha256": "2" * 64, "preprocessing": {"size": 112, "mean": [1.0, 2.0]}}
    said = fingerprint_differences(there, here)
    assert said == (
        "preprocessing.size is 224 there and 112 here, weights_sha256 is 111111111111 there and 222222222222 here"
    )
    assert fingerprint_differences(there, there) == ""
    assert "and 3 more" in fingerprint_differences({str(n): n for n in range(7)}, {})


def test_few_items_have_no_interval():
    assert interval_text((100.0, 100.0), FEWEST - 1) == " (too few)"
    assert interval_text((80.0, 90.0), FEWEST, signed=True) == " [+80.0, +90.0]"
    assert interval_text((None, None), 2) == ""
    assert few_note([("50.0 (too few)",)], "A note.").startswith("A note. (too few): an interval needs")
    assert few_note([("50.0 [1.0, 2.0]",)]) == ""


def test_a_run_that_can_change_nothing_is_told_of():
    assert faint_hint(651, 5e-7) == ""
    assert faint_hint(2, 5e-7).startswith("2 optimiser steps at a learning rate of 5e-07 change next to nothing")
    assert faint_hint(1, 1e-3) == ""
    assert "1 optimiser step at" in faint_hint(1, 1e-6)


def test_the_end_of_a_run_compares_its_first_and_last_steps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in range(20):
        append_step(path, {"step": step + 1, "rows": 8, "loss": 1.0 - step / 20, "accuracy": step / 19})
    assert run_outcome(path) == (
        "20 steps, 160 rows counting every epoch: loss 0.975 -> 0.075, pairs the right way round 3% -> 97%."
    )
    still = tmp_path / "still.jsonl"
    for step in range(2):
        append_step(still, {"step": step + 1, "rows": 8, "loss": 1.0, "accuracy": 0.0})
    assert run_outcome(still).endswith("loss still 1, pairs the right way round still 0%.")
    assert run_outcome(tmp_path / "none") == ""


def test_commands_to_copy_are_quoted():
    assert command_line("avem report", "my runs/a", "b") == "avem report 'my runs/a' b"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("avem be", "bench"), ("avem bench emorealm --questi", "--questions"), ("avem cache neg", "negatives")],
)
def test_bash_completes_commands_and_options(typed, completed):
    """As the script that `--install-completion` writes asks for it."""
    words = typed.split()
    environment = {"_AVEM_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([AVEM], capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    assert done.stdout.split() == [completed]


@pytest.mark.parametrize(
    ("shell", "line"),
    [("bash", "complete -o default -F _avem_completion avem"), ("zsh", "compdef _avem_completion avem")],
)
def test_the_script_that_is_shown_is_one_of_the_shell(shell, line):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    shown = [shell, "-c", f"{AVEM} --show-completion; :"]  # Typer looks at the process that started it
    script = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert line in script.splitlines()
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_at_the_first_tab(tmp_path):
    """The file is loaded by the first TAB: its function has to answer that one too, and the next."""
    repair_zsh()
    script = get_completion_script(prog_name="avem", complete_var="_AVEM_COMPLETE", shell="zsh")
    (tmp_path / "_avem").write_text(script.replace("eval $(", "print asked; : $("))
    lines = f"compdef() {{ print registered $1 }}; fpath=({tmp_path}); autoload -Uz _avem; _avem; _avem_completion"
    done = subprocess.run(["zsh", "-f", "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["registered _avem_completion", "asked", "asked"]


@pytest.mark.parametrize("group", [[], ["cache"]])
def test_a_command_of_commands_shows_its_help(group):
    status, out, err = avem(*group)
    assert (status, out) == (2, "")
    assert re.match(r"Usage: .*\[OPTIONS\] COMMAND", err)
    assert len(err.splitlines()) > 10, "the lines of the help are lines"


def test_the_command_after_training_and_after_a_bench_repeats_what_is_not_the_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    config = PreferenceConfig(model="base", prefs=Path("p.jsonl"), cache=Path("store"), out=run)
    show_outcome(run, config)
    bench = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Next:"))
    assert bench.endswith("--compare base --cache store --questions QUESTIONS.json")
    Path("emorealm_v1.json").write_text("[]")
    show_outcome(run, config)
    assert "--questions" not in capsys.readouterr().out

    result = BenchResult("one", (), {"likelihood": {}, "text_only": {}})
    steps = partial(next_steps, [result], ["base"], tmp_path, cache=Path("./cache"), questions=Path("./mine.json"))
    assert all("--questions mine.json --style cloze" in line for line in steps(style="cloze"))
    assert all("--questions mine.json" in line and "--style" not in line for line in steps(style="letters"))
