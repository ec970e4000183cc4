"""Subtasks from a side file, the sentence where there are none, and the method of the headline."""

import json

import pytest

from avem.errors import DataError, MissingFileError, SettingError
from avem.evaluate.bench import bench_emorealm
from avem.evaluate.emorealm.cues import cue_records, cue_sheet
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.emorealm.subtasks import read_subtasks, subtask_note, unlabelled, with_subtasks
from avem.evaluate.emorealm.summary import summarise, to_csv
from avem.evaluate.runner import BenchOptions, run_emorealm
from avem.records import Question
from tests.table_kit import read_csv


def stress(number, answer, **extra):
    task = "reasoning_stress_audio"
    return Question(f"s{number}", f"{number}.mp4", task, "Is it?", ("(A) Yes", "(B) No"), answer, extra)


def test_the_note_counts_what_is_missing():
    asked = [stress(0, "A"), stress(1, "B"), stress(2, "B", subtask="spurious")]
    assert [each.id for each in unlabelled(asked)] == ["s1"]
    assert "1 stress questions" in subtask_note(asked)
    assert subtask_note(asked[2:]) == ""


def test_labels_join_by_id_and_must_fit(tmp_path):
    path = tmp_path / "subtasks.jsonl"
    lines = [{"id": "s1", "subtask": "hallucinated", "cue": "rain"}, {"id": "s9", "subtask": "spurious"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = read_subtasks(path)
    found = with_subtasks([stress(0, "A"), stress(1, "B")], labels)
    assert [each.extra for each in found] == [{}, {"subtask": "hallucinated"}]
    with pytest.raises(DataError, match="spurious of s0 contradicts its answer A"):
        with_subtasks([stress(0, "A")], {"s0": "spurious"})
    with pytest.raises(DataError, match="None of the subtasks is for a question"):
        with_subtasks([stress(0, "A")], {"x": "spurious"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no subtasks"),
        ('{"id": "1"}\n', "line 1"),
        ('{"id": "1", "subtask": "maybe"}\n', "not one of no_hallucination, spurious, hallucinated"),
        ('{"id": "1", "subtask": "spurious"}\n{"id": "1", "subtask": "hallucinated"}\n', "two different subtasks"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "subtasks.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_subtasks(path)
    with pytest.raises(MissingFileError, match="avem emorealm subtasks"):
        read_subtasks(tmp_path / "none.jsonl")


def test_an_earlier_result_takes_labels_and_another_headline(fake_model, fake_store, questions, tmp_path):
    plain = [Question(q.id, q.video, q.task, q.question, q.choices, q.answer) for q in questions]
    bench_emorealm(fake_model(), fake_store, plain, out_dir=tmp_path / "old", resamples=20, name="old")
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in plain]))
    no = next(q for q in plain if q.task == "reasoning_stress_video" and q.answer == "B")
    (tmp_path / "s.jsonl").write_text(json.dumps({"id": no.id, "subtask": "spurious"}) + "\n")
    options = BenchOptions(
        questions=tmp_path / "q.json",
        models=(str(tmp_path / "old"),),
        subtasks=tmp_path / "s.jsonl",
        headline="generation",
        out=tmp_path / "out",
        resamples=20,
    )
    (result,) = run_emorealm(options)
    assert result.method == "generation"
    for method in ("likelihood", "generation"):
        assert result.scores[method]["subtasks"]["reasoning_stress_video"]["spurious"]["n"] == 1
    cues = result.scores["likelihood"]["cues"]["reasoning_stress_video"]
    assert cues["spurious"]["no_n"] == 1
    assert "auc_interval" in cues["spurious"]
    (record,) = cue_records([result])
    assert record["auc"] == cues["spurious"]["auc"]
    assert (
        record["no_accuracy"]
        == result.scores["likelihood"]["subtasks"]["reasoning_stress_video"]["spurious"]["accuracy"]
    )
    assert record["text_only_auc"] == result.scores["text_only"]["cues"]["reasoning_stress_video"]["spurious"]["auc"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the option that the written reply names counts, as in the paper" in page
    assert "2 stress questions, which carry no subtask" in page
    rows = read_csv(to_csv(summarise([result], resamples=20), ["old"]))
    plain_result = read_result(tmp_path / "old")
    assert cue_sheet([plain_result]) is None
    stress_row = next(row for row in rows if row["task"] == "reasoning_stress_video")
    other = plain_result.scores["likelihood"]["tasks"]["reasoning_stress_video"]["f1"]
    assert float(stress_row["other_method"]) == pytest.approx(other)
    assert float(stress_row["value"]) == result.scores["generation"]["tasks"]["reasoning_stress_video"]["f1"]
    detected = plain_result.scores["likelihood"]["detection"]["reasoning_stress_video"]
    assert float(stress_row["auc"]) == pytest.approx(detected["auc"])


def test_a_headline_that_was_not_run(fake_model, fake_store, questions, tmp_path):
    result = bench_emorealm(fake_model(), fake_store, questions, out_dir=tmp_path, generate=False, resamples=0)
    with pytest.raises(SettingError, match="no answers by generation for --headline; it has likelihood"):
        result.with_headline("generation")


def test_permute_without_a_model_is_refused(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SettingError, match="--permute has no effect: no model is run"):
        run_emorealm(BenchOptions(models=(str(tmp_path),), permute=True, out=tmp_path / "out"))
