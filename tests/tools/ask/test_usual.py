"""Without a question, a model is asked the one that it was made for, and the output says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.files import write_json_lines
from avem.records import InstructionRow, Modality
from avem.sealed.files import write_sealed
from avem.tools.ask.settings import QUESTION, AskOptions, with_kit
from avem.tools.ask.usual import IN_FIELD, NOT_GIVEN, OF_AVEM, with_usual_question
from avem.tools.ask.worth.history import History
from avem.train.data.rows import rows_digest, usual_question
from tests.tools.ask.test_worth import ASKED
from tests.tools.ask.test_worth import run as run

OF_THE_ROWS = "No question was given, so it is asked the most frequent question of the rows that"


def row(number, question):
    return InstructionRow(f"r{number}", f"c{number}", Modality.AUDIOVISUAL, "t", question, "Anger.")


@pytest.mark.parametrize(
    ("questions", "usual"),
    [
        (["One?"], "One?"),
        (["One?", "Two?", " Two? "], "Two?"),
        (["One?", "Two?"], ""),
        ([f"{number}?" for number in range(39)] + ["0?"], "0?"),
        ([f"{number}?" for number in range(40)] + ["0?"], ""),
    ],
)
def test_the_usual_question_is_a_common_one(questions, usual):
    assert usual_question([row(number, question) for number, question in enumerate(questions)]) == usual


def test_a_trained_model_records_its_question_and_is_asked_it(run, tmp_path):
    final = shutil.copytree(run / "runs" / "base" / "final", tmp_path / "alone")  # without its rows
    assert json.loads((final / "config.json").read_text())["provenance"]["question"] == ASKED
    options, (why,) = with_usual_question(AskOptions(model=str(final)))
    assert options.question == ASKED
    assert (
        why
        == f"No question was given, so it is asked the most frequent question of the rows that {final} was trained on."
    )


def test_a_run_from_before_it_was_recorded_is_asked_what_its_rows_ask(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "moved")
    config = moved / "runs" / "base" / "final" / "config.json"
    settings = json.loads(config.read_text())
    del settings["provenance"]["question"]
    config.write_text(json.dumps(settings))
    assert with_usual_question(AskOptions(model=str(moved / "runs" / "base")))[0].question == ASKED
    (moved / "rows.jsonl").unlink()
    options, why = with_usual_question(AskOptions(model=str(moved / "runs" / "base")))
    assert (options.question, why) == (QUESTION, (NOT_GIVEN.format(OF_AVEM),))


def test_the_reason_says_how_many_rows_ask_it_where_they_are_known(run, tmp_path):
    """Two of three rows ask it; the file is the one that the run recorded, so its digest is made anew."""
    moved = shutil.copytree(run, tmp_path / "moved")
    rows = [row(1, ASKED), row(2, f" {ASKED} "), row(3, "Why?")]
    write_json_lines(moved / "rows.jsonl", [each.to_json() for each in rows])
    record = moved / "runs" / "base" / "config.json"
    content = json.loads(record.read_text())
    content["data"]["rows"] = rows_digest(rows)
    write_sealed(record, {name: value for name, value in content.items() if name != "sha256"})
    _, (why,) = with_usual_question(AskOptions(model=str(moved / "runs" / "base")))
    assert why.endswith(f"was trained on (2 of 3 rows in {moved / 'rows.jsonl'}).")
    _, (why,) = with_usual_question(AskOptions(model=str(moved / "runs" / "base")), sentence=IN_FIELD)
    assert why.startswith("The question in the field is the most frequent question of the rows")
    (moved / "rows.jsonl").unlink()
    _, (why,) = with_usual_question(AskOptions(model=str(moved / "runs" / "base")))
    assert why.endswith("was trained on.")


def test_given_questions_are_asked_without_a_word(run):
    options = AskOptions(model=str(run / "runs" / "base"))
    assert with_usual_question(options, ["Why?"]) == (options, ())


def test_a_model_that_a_kit_names_has_its_questions(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world.model, tmp_path / "kit" / "model")
    shutil.copy(world.root / "ask.json", tmp_path / "kit")
    shutil.copytree(world.model, tmp_path / "kit" / "second")
    options = with_kit(AskOptions(model="kit/model"))
    assert (options.question, options.emotion_question) == ("What is felt?", "Which feeling?")
    assert options.video_encoder == AskOptions(model="m").video_encoder, "the rest is the user's"
    assert with_usual_question(options)[1] == (
        "No question was given, so it is asked the one that kit/ask.json names.",
    )
    assert with_kit(AskOptions(model="kit/model", emotion_question="Mine?")).emotion_question == "Mine?"
    assert with_kit(AskOptions(model="kit/second")).question == QUESTION, "the kit names another model"


@pytest.mark.parametrize("form", ["text", "json", "page"])
def test_the_command_says_which_question_was_asked_and_why(world, run, tmp_path, form):
    more = {"text": (), "json": ("--json",), "page": ("--page", str(tmp_path / "page.html"))}[form]
    given = ["ask", "held/happy/0", "--model", run / "runs" / "base", "--cache", run / "cache", "--max-new-tokens", 2]
    done = CliRunner().invoke(app, [*map(str, given), *more])
    assert done.exit_code == 0, done.output
    why = f"{OF_THE_ROWS} {run / 'runs' / 'base'} was"
    if form == "json":
        record = json.loads(done.stdout.splitlines()[0])
        assert record["about_question"].startswith(why)
        assert record["answers"][0]["question"] == ASKED
        return
    shown = done.output if form == "text" else (tmp_path / "page.html").read_text()
    assert " ".join(why.split()) in " ".join(shown.split())
    assert ASKED in shown
    asked = CliRunner().invoke(app, [*map(str, given[:2]), "What?", *map(str, given[2:])])
    assert "No question was given" not in asked.output


@pytest.mark.parametrize("another_here", [False, True])
def test_paths_of_a_run_whose_folder_was_renamed_are_found(world, run, tmp_path, monkeypatch, another_here):
    """The demo's run names `demo/cache`; copied as `second`, it means `second/cache`, also beside another demo."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if another_here:
        shutil.copytree(run / "cache", "demo/cache")
    copied = shutil.copytree(run, tmp_path / "second")
    for name in ("final/config.json",):
        config = copied / "runs" / "base" / name
        settings = json.loads(config.read_text())
        training = settings["provenance"]["training"]
        for field in ("cache", "data", "out"):
            training[field] = f"demo/{training[field]}"
        config.write_text(json.dumps(settings))
    history = History.of(str(copied / "runs" / "base"))
    assert [stage.store for stage in history.stages] == [Path(copied.resolve() / "cache")]
