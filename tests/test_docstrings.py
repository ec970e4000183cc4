"""Examples in docstrings run, and every package that users import has one."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest

from tests.test_house import module_name, sources

DOORS = ("avem.extract", "avem.cache", "avem.train", "avem.evaluate", "avem.evaluate.emorealm")
EXAMPLE = re.compile(r">>> (?!.*doctest: \+SKIP)")
WITH_EXAMPLES = sorted(
    module_name(path)
    for path in sources()
    if path.name != "__main__.py" and EXAMPLE.search(path.read_text(encoding="utf-8"))
)


def test_every_door_shows_an_example():
    assert set(DOORS) <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
