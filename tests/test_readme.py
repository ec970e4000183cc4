"""The README: its commands are accepted, and its main example starts from a base that people can download."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from avem.cli import app
from avem.starts import tuned_model

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [re.split(r" {2,}#", line)[0] for block in BLOCKS for line in block.splitlines() if line.startswith("avem ")]


def test_the_example_goes_from_clips_to_a_benchmark():
    assert [line.split()[1] for line in COMMANDS] == ["extract", "train", "bench"]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_all_its_options(line):
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("avem", words)


def test_the_examples_base_is_one_that_can_be_had():
    bases = set(re.findall(r"--(?:for|model) (\S+/\S+)", " ".join(COMMANDS))) - {"runs/avem-dpo/final"}
    assert bases == {"Qwen/Qwen2.5-Omni-3B"}
    assert not any(map(tuned_model, bases))


def test_there_is_something_to_try_without_downloads():
    assert "make demo" in BLOCKS[0]
    assert "You need no GPU, no weights and no data." in README


def test_it_stays_short():
    assert len(README.splitlines()) <= 120
