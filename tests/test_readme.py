"""The README and the pages: their commands are accepted, and the main example starts from a base one can get."""

from __future__ import annotations

import re

import pytest

from avem.starts import tuned_model
from tests.pages.commands import ROOT, blocks, commands, indented, parse

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = commands(README)
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
SHOWN = [
    pytest.param(line, id=f"{name}: {line[:60]}")
    for name, text in {"README.md": README, **PAGES}.items()
    for line in dict.fromkeys([*commands(text), *indented(text)])
]


def test_the_example_goes_from_clips_to_a_benchmark():
    assert [line.split()[1] for line in COMMANDS] == ["extract", "train", "bench"]


def test_the_commands_of_the_pages_are_found():
    assert len(SHOWN) > 80


@pytest.mark.parametrize("line", SHOWN)
def test_a_shown_command_has_all_its_options(line):
    parse(line)


def test_an_option_that_is_not_there_is_found():
    with pytest.raises(Exception, match="--modle"):
        parse("avem train --modle base")
    with pytest.raises(AssertionError, match="only the last"):
        parse("avem train --model one --model two")


def test_the_examples_base_is_one_that_can_be_had():
    bases = set(re.findall(r"--(?:for|model) (\S+/\S+)", " ".join(COMMANDS))) - {"runs/avem-dpo/final"}
    assert bases == {"Qwen/Qwen2.5-Omni-3B"}
    assert not any(map(tuned_model, bases))


def test_there_is_something_to_try_without_downloads():
    assert [body.split()[:2] for _, _, body in blocks(README)][:2] == [["pip", "install"], ["make", "demo"]]
    assert "You need no GPU, no weights and no data." in README


def test_links_of_the_readme_lead_to_files():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(targets) > 15
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_it_stays_short():
    assert len(README.splitlines()) <= 120
