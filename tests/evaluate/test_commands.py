"""The commands, from files to files."""

import json

import pytest
import typer
from typer.testing import CliRunner

from avem.commands.bench.app import bench_app
from avem.commands.report import report
from avem.errors import AvemError, DataError, MissingFileError, SettingError
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.predict.loading import short_names
from avem.evaluate.runner import BenchOptions, run_emorealm, scoring_differences
from avem.records import Question


@pytest.fixture
def given(tmp_path, questions):
    """A benchmark file and answers to it: all A but one, which is missing, and one for another benchmark."""
    (tmp_path / "questions.json").write_text(json.dumps([question.to_json() for question in questions]))
    answers = {question.id: "(A)" for question in questions[1:]} | {"stranger": "B"}
    (tmp_path / "others.json").write_text(json.dumps(answers))
    return tmp_path


def invoke(given, *options):
    paths = ("--questions", given / "questions.json", "--answers", given / "others.json", "--out", given / "bench")
    return CliRunner().invoke(bench_app, ["emorealm", *map(str, paths), *options], catch_exceptions=False)


def test_given_answers(given):
    shown = invoke(given)
    assert shown.exit_code == 0
    assert "Average accuracy" in shown.output
    result = read_result(given / "bench" / "others")
    assert result.method == "generation"
    assert result.unknown == ("stranger",)
    assert result.scores["generation"]["missing"] == ["q0-0"]
    assert result.scores["generation"]["tasks"]["reasoning_basic_video"]["accuracy"] == 50
    page = (given / "bench" / "report.html").read_text()
    assert "others: 1 answer matches no question" in page
    assert "<li>stranger</li>" in page
    assert "<h1>others</h1>" in (given / "bench" / "report.html").read_text()


def test_some_tasks(given):
    shown = invoke(given, "--tasks", "reasoning_basic_video", "--limit", "2", "--csv")
    assert [line.split(",")[0] for line in shown.stdout.splitlines()] == ["task", "reasoning_basic_video", "average"]
    assert len(read_result(given / "bench" / "others").items) == 2


def test_forms(given):
    assert json.loads(invoke(given, "--json").stdout)["models"] == ["others"]
    assert invoke(given, "--csv").stdout.startswith("task,metric,model")
    assert invoke(given, "--markdown").stdout.startswith("| task |")
    assert invoke(given, "--latex").stdout.startswith("\\begin{tabular}{l")
    for form in ("table", "json", "csv", "markdown", "latex"):
        older = [] if form == "table" else [f"--{form}"]
        assert invoke(given, "--format", form).stdout == invoke(given, *older).stdout
    with pytest.raises(SettingError, match="--json and --csv"):
        invoke(given, "--json", "--csv")
    with pytest.raises(SettingError, match="--format csv and --json"):
        invoke(given, "--format", "csv", "--json")


def test_reference_scoring_says_where_the_two_differ(given):
    assert "score 0 answers differently" in invoke(given, "--reference-scoring").output
    kept = json.loads((given / "bench" / "others" / "reference.json").read_text())
    assert kept["metrics"]["reasoning_basic_video_overall_accuracy"] == {"ours": 50.0, "reference": 50.0}
    question = Question("q", "v", "modality_agreement", "?", ("(A) Yes", "(B) No"), "A")
    found = scoring_differences([question], {"q": "a man smiles"})
    assert found["items"] == ["q"]
    assert found["metrics"]["average_accuracy"] == {"ours": 0.0, "reference": 100.0}


def test_earlier_results_are_compared_and_reported(given):
    invoke(given)
    (given / "more.json").write_text(json.dumps({question: "(B)" for question in ("q1-0", "q3-0")}))
    options = BenchOptions(
        questions=given / "questions.json",
        models=(str(given / "bench" / "others"),),
        answers=given / "more.json",
        out=given / "bench",
        resamples=50,
    )
    assert [result.name for result in run_emorealm(options)] == ["others", "more"]
    app = typer.Typer()
    app.command()(report)
    folders = [str(given / "bench" / name) for name in ("others", "more")]
    shown = CliRunner().invoke(app, [*folders, "--out", str(given / "page.html"), "--no-paper"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "more against others" in (given / "page.html").read_text()


def test_what_is_missing_is_said(given):
    options = {"questions": given / "questions.json", "out": given / "bench"}
    for models, error, said in [
        ((), SettingError, "--model or answers"),
        (("./no/model",), MissingFileError, "avem train"),
    ]:
        with pytest.raises(error, match=said):
            run_emorealm(BenchOptions(**options, models=models))
    with pytest.raises(MissingFileError, match="--questions"):
        run_emorealm(BenchOptions(questions=given / "none.json"))
    (given / "others.json").write_text("<html>")
    with pytest.raises(DataError, match="not JSON"):
        invoke(given)
    (given / "model").mkdir()
    with pytest.raises(AvemError, match="store"):
        run_emorealm(BenchOptions(**options, models=(str(given / "model"),), cache=given / "nothing"))


def test_short_names():
    models = [
        "./runs/base/final",
        "runs/avem-dpo/final",
        "chaubeyG/AVERE-7B",
        "elsewhere/base",
        "bench/old/result.json",
    ]
    assert short_names(models) == ["base", "avem-dpo", "AVERE-7B", "base-4", "old"]
