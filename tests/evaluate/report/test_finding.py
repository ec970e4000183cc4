"""`avem report` finds the results and runs that lie in a folder, and says what it looked for where there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError, MissingFileError
from avem.evaluate.emorealm.results import score_items
from avem.evaluate.report.finding import find_reported, read_results
from avem.evaluate.report.titles import RELEASED, benchmark_title
from tests.evaluate.report.test_bench_page import make_items, make_run_folder


def write_result(folder, name="m", every=1, clips=3, age=0):
    path = folder / "result.json"
    score_items(make_items(every, clips=clips), resamples=0, name=name).write(path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_a_folder_of_benches_and_runs_is_searched_and_the_oldest_result_is_first(tmp_path):
    run = make_run_folder(tmp_path)
    new, old = write_result(tmp_path / "bench" / "a", "new"), write_result(tmp_path / "bench" / "b", "old", age=9)
    for closed in ("runs/avem-dpo/checkpoints/x", "runs/.hidden"):
        write_result(tmp_path / closed)
    (tmp_path / "bench" / "c").mkdir()
    (tmp_path / "bench" / "c" / "result.json").write_text('{"format": "of another tool"}')
    found = find_reported([tmp_path])
    assert found.results == (old, new)
    assert found.runs == (run,)
    assert find_reported([new.parent, tmp_path / "bench"]).results == (new, old), "the given one comes first"
    assert find_reported([old.parent], [tmp_path / "runs"]).runs == (run,)


def test_a_run_with_a_bench_inside_is_both(tmp_path):
    run = make_run_folder(tmp_path)
    inside = write_result(run / "bench" / "final")
    found = find_reported([run])
    assert (found.results, found.runs) == ((inside,), (run,))


def test_results_of_one_name_are_called_by_their_runs(tmp_path):
    paths = [write_result(tmp_path / "sweep" / cell / "bench", "model", age=number) for number, cell in enumerate("ab")]
    assert [result.name for result in read_results(paths)] == ["a", "b"]
    other = write_result(tmp_path / "c", "own")
    assert [result.name for result in read_results([*paths, other])] == ["a", "b", "own"]


def test_results_on_different_questions_are_told_apart(tmp_path):
    few, many = write_result(tmp_path / "few", clips=2), write_result(tmp_path / "many", clips=3)
    with pytest.raises(DataError, match=r"different questions \(4 questions: .*few; 6 questions: .*many\)"):
        read_results([few, many])


def test_nothing_found_says_what_was_looked_for_and_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(MissingFileError, match=r"no bench result \(result.json\) and no.*below empty; `avem"):
        find_reported([Path("empty")])
    write_result(Path("old", "bench", "base"))
    with pytest.raises(MissingFileError, match=r"a bench result is in old/bench/base\."):
        find_reported([Path("empty")])
    with pytest.raises(MissingFileError, match=r"no metrics.jsonl in or below empty"):
        find_reported([Path("old")], [Path("empty")])


def test_the_command_says_what_it_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run_folder(tmp_path)
    write_result(tmp_path / "bench" / "b", "base", every=3, age=1)
    write_result(tmp_path / "bench" / "a", "new")
    done = CliRunner().invoke(app, ["report", "bench", "runs", "--pictures", "0"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Found 2 bench results and 1 run." in done.output
    page = (tmp_path / "report.html").read_text()
    assert "<h1>new against base</h1>" in page
    assert 'id="training"' in page


def result(clips=3, **about):
    return score_items(make_items(1, clips=clips), resamples=0, name="m", **about)


def test_the_title_names_the_benchmark_or_the_file(tmp_path):
    assert benchmark_title([result()]) == "Your own questions"
    assert benchmark_title([result(asked={"file": "mine.json", "questions": 6})]) == "Questions of mine.json"
    assert benchmark_title([result(asked={"file": "emorealm_v1.json", "questions": 140})]) != "EmoReAlM"
    assert benchmark_title([result(asked={"file": "e.json", "questions": RELEASED})]) == "EmoReAlM", "a part of it"
    assert benchmark_title([result(benchmark="cmm")]) == "CMM"
    written = result(asked={"file": "mine.json", "questions": 6})
    written.write(tmp_path / "result.json")
    assert read_results([tmp_path / "result.json"])[0].asked == written.asked
