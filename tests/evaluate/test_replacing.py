"""A bench may be run again, and never takes the place of another bench's results."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from avem.commands.bench.app import bench_app
from avem.errors import SettingError
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.recognition.results import LabelItem, RecognitionResult
from avem.evaluate.replacing import refuse_replacing


@pytest.fixture
def given(tmp_path, questions):
    """A benchmark file and answers to it."""
    (tmp_path / "questions.json").write_text(json.dumps([question.to_json() for question in questions]))
    (tmp_path / "mine.json").write_text(json.dumps({question.id: "(A)" for question in questions}))
    return tmp_path


def bench(given, *options, answers="mine.json", out="bench"):
    paths = ("--questions", given / "questions.json", "--answers", given / answers, "--out", given / out)
    CliRunner().invoke(bench_app, ["emorealm", *map(str, paths), *options], catch_exceptions=False)


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_bench_may_be_repeated_with_other_answers(given):
    bench(given)
    (given / "mine.json").write_text('{"q0-0": "(B)"}')
    bench(given)
    assert [item.reply for item in read_result(given / "bench" / "mine").items if not item.absent] == ["(B)"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--style", "cloze"), r"style was letters, now cloze"),
        (("--limit", "1"), r"results on \d+ questions that this bench leaves out"),
        (("--tasks", "reasoning_basic_video"), r"results on \d+ questions that this bench leaves out"),
    ],
)
def test_another_bench_is_refused_before_anything_is_written(given, options, said):
    bench(given)
    before = files(given / "bench")
    with pytest.raises(SettingError, match=f"bench/mine holds .*{said}.*--out"):
        bench(given, *options)
    assert files(given / "bench") == before
    bench(given, *options, out="another")


def test_more_questions_may_follow_fewer(given):
    bench(given, "--limit", "1")
    few = len(read_result(given / "bench" / "mine").items)
    bench(given)
    assert len(read_result(given / "bench" / "mine").items) > few


def test_answers_do_not_replace_those_of_a_model_nor_one_model_another(given):
    bench(given)
    kept = given / "bench" / "mine" / "result.json"
    result = read_result(kept)
    for name in ("one", "two"):
        (given / name / "mine").mkdir(parents=True)
    replace(result, model={"source": str(given / "one" / "mine")}).write(kept)
    with pytest.raises(SettingError, match="now none"):
        bench(given)
    ids = {question.id for question in result.questions}
    refuse_replacing(kept, {"model": str(given / "two" / ".." / "one" / "mine")}, ids)
    refuse_replacing(kept, {"model": "hub/mine"}, ids)  # may be the name of that folder
    with pytest.raises(SettingError, match=r"one/mine, now .*two/mine"):
        refuse_replacing(kept, {"model": str(given / "two" / "mine")}, ids)


def test_scores_of_fewer_methods_or_orders_do_not_replace_those_of_more(given, questions):
    bench(given)
    kept = given / "bench" / "mine" / "result.json"
    result, ids = read_result(kept), {question.id for question in questions}
    refuse_replacing(kept, {}, ids, methods=("likelihood", "generation"))
    with pytest.raises(SettingError, match=r"written replies.*--generate"):
        refuse_replacing(kept, {}, ids, methods=("likelihood",))
    asked = [replace(item, orders=((0.0, -1.0), (-1.0, 0.0))) for item in result.items]
    replace(result, items=tuple(asked)).write(kept)
    refuse_replacing(kept, {}, ids, permute=True)
    with pytest.raises(SettingError, match=r"every order of the options.*--permute"):
        refuse_replacing(kept, {}, ids, permute=False)


def test_a_damaged_result_is_replaced(given):
    bench(given)
    kept = given / "bench" / "mine" / "result.json"
    kept.write_text(kept.read_text()[:50])
    bench(given, "--style", "cloze")
    assert read_result(kept).style == "cloze"


def test_results_of_recognition(tmp_path):
    file = tmp_path / "ravdess" / "final" / "audiovisual.json"
    items = (LabelItem("a", "a.mp4", "joy"), LabelItem("b", "b.mp4", "anger"))
    made = RecognitionResult(
        "final", "ravdess", "audiovisual", ("joy", "anger"), items, {}, "test", prompt="What is felt?"
    )
    made.write(file)
    refuse_replacing(file, {"split": "test", "prompt": "What is felt?"}, {"a", "b", "c"}, "clip")
    with pytest.raises(SettingError, match=r"split was test, now train"):
        refuse_replacing(file, {"split": "train"}, {"a", "b"}, "clip")
    with pytest.raises(SettingError, match=r"results on 1 clip that this bench leaves out .b, "):
        refuse_replacing(file, {}, {"a"}, "clip")
