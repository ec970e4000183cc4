"""The commands: they call the library, show what it found, and end with the statuses that scripts rely on."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError, PartialFailure
from avem.files import write_json_lines
from avem.tools.corpus.rows import preferences
from avem.tools.project.standin.server import Fault, StandIn


def call(*arguments, fails=None):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if fails is None:
        assert result.exception is None, result.output
    else:
        assert isinstance(result.exception, fails)
    return result


@pytest.fixture
def rows_file(tmp_path, scenes):
    write_json_lines(tmp_path / "rows.jsonl", (row.to_json() for scene in scenes for row in preferences(scene)))
    return tmp_path / "rows.jsonl"


def test_validate_shows_figures_and_fails_on_faults(rows_file):
    said = call("prefs", "validate", rows_file).output
    assert "0 errors" in said
    assert "text-only" in said
    assert json.loads(call("prefs", "validate", rows_file, "--json").output)["errors"] == 0
    rows_file.write_text(rows_file.read_text() + "{broken\n")
    lines = len(rows_file.read_text().splitlines())
    result = call("prefs", "validate", rows_file, fails=DataError)
    assert f"line {lines}: error not-json" in result.output
    assert result.exception.exit_status == 2


def test_convert_goes_there_and_back(rows_file, tmp_path):
    call("prefs", "convert", rows_file, tmp_path / "r.json", "--to", "reference", "--media", "videos/{clip}.mp4")
    first = json.loads((tmp_path / "r.json").read_text())[0]
    assert (first["video"], first["audio"]) == ("videos/demo/00000.mp4", "videos/demo/00000.wav")
    call("prefs", "convert", tmp_path / "r.json", tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_text() == rows_file.read_text()


def test_both_builds_from_the_command_line(corpus, scenes, tmp_path):
    with StandIn(scenes) as standin:
        common = [corpus.root, "--endpoint", standin.endpoint, "--model", "writer", "--limit", "5", "--retries", "0"]
        said = call("prefs", "build", *common, "--dry-run", "--price-in", "1", "--price-out", "2").output
        assert "cost" in said
        assert not standin.bodies
        said = call("prefs", "build", *common, "--out", tmp_path / "prefs").output
        assert "total" in said
        assert (tmp_path / "prefs" / "preferences.jsonl").is_file()
        said = call("emorealm", "build", *common, "--out", tmp_path / "bench", "--batch").output
        assert "Submit" in said
        ended = call(
            "emorealm", "build", *common, "--out", tmp_path / "bench", fails=PartialFailure
        )  # one verdict only
        assert "No question of modality_agreement is left: 5 asked, 5 written, " in str(ended.exception)
        assert ended.exception.exit_status == 3
        call("emorealm", "build", *common, "--out", tmp_path / "bench", "--no-balance")
        assert (tmp_path / "bench" / "emorealm_v1.json").is_file()
    with StandIn(scenes, faults=[Fault("server_error", step="audio_emotion", once=False)]) as standin:
        common[2] = standin.endpoint
        result = call("prefs", "build", *common, "--out", tmp_path / "failing", fails=PartialFailure)
    assert result.exception.exit_status == 3


def test_a_survey_and_its_votes(rows_file, tmp_path):
    call("prefs", "survey", rows_file, "--out", tmp_path / "survey", "--sample", "4", "--votes", "1")
    key = json.loads((tmp_path / "survey" / "key.json").read_text())
    answers = {item["id"]: {"choice": item["expected"]} for item in key["items"]}
    saved = tmp_path / "answers.json"
    saved.write_text(json.dumps({"survey": key["survey"], "annotator": "ann", "answers": answers}))
    said = call("prefs", "votes", tmp_path / "survey", saved, "--out", tmp_path / "kept.jsonl").output
    assert "majority" in said
    assert "4 are in" in said
    groups = json.loads(call("prefs", "votes", tmp_path / "survey", saved, "--json").output)
    assert groups[-1]["final"] == 12
