"""Every command's help: each option shows its default, and nothing is lost or cut at 80 columns."""

from __future__ import annotations

import functools
import re

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from avem.cli import app
from avem.tools.demo.presets import PREFERENCE, SUPERVISED


def walk(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
OPTIONS = [
    pytest.param(path, each, id=" ".join((*path, each.opts[0])))
    for path, command in COMMANDS.items()
    for each in command.params
    if not getattr(each, "hidden", False) and each.name not in ("help", "version")
]


@functools.cache
def rendered(path, width, flag="--help"):
    done = CliRunner().invoke(app, [*path, flag], env={"COLUMNS": str(width), "TERMINAL_WIDTH": str(width)})
    assert done.exit_code == 0
    return done.output


def test_the_walk_finds_the_commands():
    assert {("train",), ("cache", "repair"), ("bench", "emorealm"), ("proof", "run")} <= set(COMMANDS)
    assert len(OPTIONS) > 200


@pytest.mark.parametrize(("path", "option"), OPTIONS)
def test_the_help_shows_every_default(path, option):
    said = "".join(rendered(path, 80).split())
    assert option.help, "an option without help"
    assert "[default" not in option.help
    _, found, after = said.partition("".join(option.help.split()))
    assert found, "the help is not shown as it is written"
    if option.required or (getattr(option, "is_flag", False) and not option.secondary_opts):
        return
    default = option.show_default if isinstance(option.show_default, str) else option.default
    assert default not in (None, ""), "nothing to show as the default: give show_default"
    if getattr(option, "is_flag", False) and not isinstance(option.show_default, str):
        default = (option.opts if default else option.secondary_opts)[0].removeprefix("--")
    shown = "".join(str(getattr(default, "value", default)).split())
    assert re.match(r"\[default:\(?" + re.escape(shown) + r"[;)\]]", after)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_80_columns(path):
    lines = rendered(path, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.match(r"  \S+  +.*\w[,;]?\.\.\.$", line)], "a summary is cut"
    assert rendered(path, 80, "-h").splitlines() == lines


def test_brackets_in_help_are_not_markup():
    assert "avem[ray]" in rendered(("extract",), 200)
    assert Text.from_markup("avem[ray]").plain == "avem"  # what Rich would make of it


def test_the_demos_shown_epochs_are_its_own():
    said = " ".join(rendered(("demo",), 200).split())
    assert f"Epochs of supervised training. [default: ({SUPERVISED['epochs']})]" in said
    assert f"Epochs of preference training. [default: ({PREFERENCE['epochs']})]" in said


def test_older_spellings_of_the_format_are_hidden():
    said = rendered(("bench", "emorealm"), 80)
    assert "--format <table|json|csv|markdown|latex>" in said
    assert not re.search(r"--(json|csv|markdown|latex)\b", said)
