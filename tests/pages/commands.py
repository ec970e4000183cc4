"""Commands and code of pages: found, parsed against the command line, and run."""

from __future__ import annotations

import re
import runpy
import shlex
from itertools import takewhile
from pathlib import Path

import typer
from typer.testing import CliRunner

from avem.cli import app

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r'^(?P<fence>```+)(?P<kind>\w*)(?: title="(?P<title>[\w.]+)")?\n(?P<body>.*?)^(?P=fence)', re.DOTALL | re.MULTILINE
)


def blocks(text):
    """Every fenced block of a page: kind, title and text."""
    return [(found["kind"], found["title"] or "", found["body"]) for found in BLOCK.finditer(text)]


def commands(text):
    """Every `avem` command of a page's blocks, without the comment behind it."""
    shells = [body.replace("\\\n", " ") for kind, _, body in blocks(text) if kind in ("", "sh", "console")]
    lines = [line for body in shells for line in body.splitlines()]
    return [re.split(r" +#", line)[0].strip() for line in lines if line.startswith("avem ")]


def indented(text):
    """Every `avem` command of a page's indented code, with the lines that continue it."""
    outside = BLOCK.sub("", text).replace("\\\n", " ")
    lines = [line.strip() for line in outside.splitlines() if line.startswith("    avem ")]
    return [re.split(r" {2,}#", line)[0].strip() for line in lines]


def parse(line):
    """Parse a command line as `avem` would, without running it.

    Raises where an option is not there, or is given twice although only the last would count.
    """
    command, words = typer.main.get_command(app), shlex.split(line, comments=True)[1:]
    words = list(takewhile(lambda word: word not in (">", "|", "&&"), words))
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    for option in command.params:
        given = sum(word.partition("=")[0] in option.opts for word in words)
        assert given <= 1 or option.multiple, f"{line}: only the last {option.opts[0]} would count"
    return command.make_context("avem", words)


def run_page(text, folder):
    """Do what a page says, in order: write its titled blocks to files, run its commands and its scripts.

    Returns:
        What each command printed.
    """
    printed = []
    for kind, title, body in blocks(text):
        if title:
            (folder / title).write_text(body, encoding="utf-8")
        for line in body.splitlines() if kind == "sh" else ():
            words = shlex.split(line)
            if words[0] == "python":
                runpy.run_path(str(folder / words[1]), run_name="__main__")
                continue
            done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
            assert done.exit_code == 0, f"{line}\n{done.output}"
            printed.append(done.output)
    return printed
