"""The tutorial: everything it says is done, from drawn clips to the report."""

from __future__ import annotations

import json

import pytest

from tests.pages.commands import ROOT, commands, run_page

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_the_tutorial_goes_from_clips_to_a_page():
    steps = [line.split()[1] for line in commands(TUTORIAL)]
    assert steps == ["demo", "extract", "cache", "prefs", "train", "cache", "train", "train", "bench", "ask"]


@pytest.mark.slow
def test_the_tutorial_works_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(TUTORIAL, tmp_path)
    page = (tmp_path / "bench" / "report.html").read_text(encoding="utf-8")
    assert "avem-dpo against base" in page
    assert 'id="cases"' in page
    result = json.loads((tmp_path / "bench" / "avem-dpo" / "result.json").read_text(encoding="utf-8"))
    assert len(result["items"]) == 6
    assert not any(item["absent"] for item in result["items"]), "a question without its clip"
    assert (tmp_path / "negatives.html").is_file()
