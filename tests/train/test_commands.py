"""The commands: precedence of their sources, the plan they show, and sentences in place of tracebacks."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from avem.commands.cache.logps import logps
from avem.commands.train import train
from avem.errors import MissingFileError, SettingError
from avem.train.stages import stage_config
from tests.train.training_kit import Kit, make_kit, preference_rows


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("commands"))


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(train)
    app.command()(logps)
    return app


def test_a_file_beats_the_usual_places_and_options_beat_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('out = "from-file"\nprefs = "file.jsonl"\nbeta = 0.3\n')
    config = stage_config("preference", {"prefs": "given.jsonl", "cache": None}, file=file, overrides=["beta=0.4"])
    assert [str(path) for path in (config.cache, config.out, config.prefs)] == ["cache", "from-file", "given.jsonl"]
    assert config.beta == 0.4


def test_stages_have_their_own_places():
    assert stage_config("sft", {}).out.name == "sft"
    projector = stage_config("projector", {})
    assert (projector.tune, projector.train_projectors) == ("none", True)
    with pytest.raises(SettingError, match="no option prefs"):
        stage_config("sft", {"prefs": "rows.jsonl"})


def test_dry_run_train_and_logps(kit, app, tmp_path):
    common = ["--cache", str(kit.store), "--prefs", str(kit.prefs), "--model", str(kit.model), "--set", "device=cpu"]
    out = tmp_path / "run"
    shown = CliRunner().invoke(app, ["train", *common, "--out", str(out), "--dry-run"], catch_exceptions=False)
    assert f"{len(preference_rows())}" in shown.output
    assert "sharing saves" in shown.output
    assert not out.exists()
    scored = CliRunner().invoke(app, ["logps", *common], catch_exceptions=False)
    assert "constant scores" in scored.output
    done = CliRunner().invoke(
        app, ["train", *common, "--out", str(out), "--set", "max_steps=1"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert (out / "final" / "config.json").is_file()


def test_missing_files_are_named(kit, app, tmp_path):
    with pytest.raises(MissingFileError, match="There is no file"):
        CliRunner().invoke(app, ["train", "--prefs", str(tmp_path / "none.jsonl")], catch_exceptions=False)
    with pytest.raises(MissingFileError, match="avem extract"):
        CliRunner().invoke(
            app, ["train", "--prefs", str(kit.prefs), "--cache", str(tmp_path / "none")], catch_exceptions=False
        )
