"""Which model training starts from, and that a start which is tuned already is said everywhere."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import SettingError
from avem.evaluate.report.runs import write_run_report
from avem.starts import BASE, default_model, tuned_model
from avem.tools.sweep.grid import label_start, read_grid
from avem.tools.sweep.outcome import make_sheet
from avem.tools.sweep.run import RunResult
from avem.train import PreferenceConfig, SupervisedConfig, train_preferences, train_supervised
from avem.train.stages import stage_config
from tests.train.training_kit import Kit, make_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("starts"))


def test_the_default_is_a_local_base_or_a_released_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_model() == stage_config("preference", {}).model == BASE
    assert tuned_model(BASE) is None
    (tmp_path / "base").mkdir()
    assert stage_config("preference", {}).model == "./base"
    assert stage_config("preference", {"model": "other"}).model == "other"


@pytest.mark.parametrize(
    "name",
    [
        "chaubeyG/AVERE-7B",
        "chaubeyg/avere-7b",
        "models/AVERE-7B",
        "hub/models--chaubeyG--AVERE-7B/snapshots/0123",
    ],
)
def test_the_papers_model_is_known_in_every_spelling(name):
    found = tuned_model(name)
    assert found is not None
    assert (found.name, found.method) == ("AVERE-7B", "AVEm-DPO")


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-Omni-3B", "base", "chaubeyG/AVERE-7B-base", ""])
def test_bases_are_not_called_tuned(name):
    assert tuned_model(name) is None


def test_the_default_base_is_refused_before_it_is_fetched(kit, tmp_path, monkeypatch):
    """The store's features are another model's; nothing may be downloaded to find that out."""
    monkeypatch.chdir(tmp_path)
    for command in (["train"], ["cache", "logps"], ["sweep", "table17", "--questions", str(kit.prefs)]):
        with pytest.raises(SettingError, match=f"avem extract CLIPS --for {BASE}"):
            CliRunner().invoke(
                app, [*command, "--cache", str(kit.store), "--prefs", str(kit.prefs)], catch_exceptions=False
            )


def test_a_run_on_top_of_a_tuned_model_says_so(kit, tmp_path, caplog):
    settings = {"max_steps": 1, "reliance_rows": 0}
    with caplog.at_level(logging.WARNING, logger="avem"):
        first = train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "first", **settings)))
    assert not [record for record in caplog.records if "already tuned" in record.getMessage()]
    assert "Training started from" not in (first / "final" / "README.md").read_text()
    for start in (str(first), str(first / "final")):
        assert tuned_model(start).label == "first (already tuned with preference training of avem)"
    chosen = {**settings, "model": str(first / "final")}
    with caplog.at_level(logging.WARNING, logger="avem"):
        second = train_preferences(PreferenceConfig(**kit.preference_settings(tmp_path / "second", **chosen)))
    assert "already tuned with preference training of avem" in caplog.text
    card = (second / "final" / "README.md").read_text()
    assert "Training started from first, which was already tuned with preference training of avem" in card
    provenance = json.loads((second / "final" / "config.json").read_text())["provenance"]
    assert provenance["start"] == {"name": "first", "method": "preference training of avem"}
    page = write_run_report(tmp_path / "runs.html", [first, second]).read_text(encoding="utf-8")
    assert page.count("started from first (already tuned") == 1


def test_supervised_training_does_not_hide_a_tuned_start(kit, tmp_path):
    settings = {"max_steps": 1, "reliance_rows": 0, "tune": "lora", "train_projectors": False}
    plain = train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path / "plain", **settings)))
    assert tuned_model(str(plain)) is None
    config = json.loads((plain / "final" / "config.json").read_text())
    config["provenance"]["start"] = {"name": "AVERE-7B", "method": "AVEm-DPO"}
    Path(tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    found = tuned_model(str(tmp_path / "copy"))
    assert found is not None
    assert found.label == "copy (already tuned with AVEm-DPO)"


@pytest.mark.parametrize("table", ["table3", "table5"])
def test_a_sweeps_base_is_labelled_beside_the_papers_tuned_row(table, tmp_path):
    grid = read_grid(table)
    assert label_start(grid, BASE) == grid
    labelled = label_start(grid, "chaubeyG/AVERE-7B")
    full = next(run for run in grid.runs if run.name == "AVEm-DPO")
    assert labelled.base.paper == full.paper != grid.base.paper
    column = grid.columns[0]
    label = "AVERE-7B (already tuned with AVEm-DPO)"
    sheet = make_sheet(labelled, [RunResult(label, 0, {column: 80.0}, tmp_path)])
    assert sheet.title.endswith(f"every run starts from {label}")
    row = sheet.rows[0]
    assert row[0] == label
    assert row[-len(grid.columns)] == f"{full.paper[0]:.1f}"
