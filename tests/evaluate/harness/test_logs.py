"""Logs that harnesses wrote (`tests/golden/harness`), read as answers of the bench, and files that are none."""

import json
import shutil
import zipfile

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError
from avem.evaluate.harness.registry import harness_of_log
from avem.evaluate.predict.answers import read_answers
from tests.evaluate.harness.harness_kit import REPLIES, write_benchmark

LOGS = {"lmms_eval_samples.jsonl": "lmms-eval", "inspect.eval": "inspect", "inspect.json": "inspect"}


@pytest.mark.parametrize("name", LOGS)
def test_real_logs_give_the_replies(golden, name):
    path = golden / "harness" / name
    harness = harness_of_log(path)
    assert harness is not None
    assert harness.name == LOGS[name]
    assert read_answers(path) == REPLIES


@pytest.mark.parametrize("name", LOGS)
def test_the_bench_scores_a_log(golden, tmp_path, name):
    write_benchmark(tmp_path, clips=0)
    arguments = [
        "bench",
        "emorealm",
        "--questions",
        str(tmp_path / "q.json"),
        "--answers",
        str(golden / "harness" / name),
    ]
    run = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "bench"), "--format", "json"])
    assert run.exit_code == 0, run.output
    [result] = (tmp_path / "bench").glob("*/result.json")
    content = json.loads(result.read_text())
    letters = [item["reply_letter"] for item in content["items"]]
    assert letters == ["A", "B", "B", "A", None, None]
    assert content["scores"]["generation"]["tasks"]["modality_agreement"]["accuracy"] == 25.0


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_tables_are_read_by_their_columns(tmp_path, suffix):
    path = tmp_path / f"model_EmoReAlM_audio{suffix}"
    between = "," if suffix == ".csv" else "\t"
    lines = [
        ("index", "emorealm_id", "prediction"),
        ("0", "id=007", "B"),
        ("1", "id=8", '"A\nlong"'),
        ("2", "id=9", ""),
    ]
    path.write_text("\n".join(between.join(line) for line in lines) + "\n")
    assert read_answers(path) == {"007": "B", "8": "A\nlong"}
    path.write_text(between.join(("index", "answer")) + "\n")
    with pytest.raises(DataError, match="should have the columns emorealm_id"):
        read_answers(path)


def test_a_log_of_another_task_is_refused(tmp_path):
    path = tmp_path / "x_samples_videomme.jsonl"
    path.write_text(json.dumps({"doc_id": 0, "filtered_resps": "A", "videomme_score": {"question_id": "1"}}) + "\n")
    with pytest.raises(DataError, match=r"line 1: .*run the tasks that `avem emorealm export` wrote"):
        read_answers(path)


def test_several_replies_to_a_question_are_refused(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps({"doc_id": 0, "filtered_resps": ["A", "B"], "emorealm_accuracy": {"id": "1"}}) + "\n")
    with pytest.raises(DataError, match="no single reply"):
        read_answers(path)


def test_a_flipped_byte_in_a_packed_sample_is_noticed(golden, tmp_path):
    path = tmp_path / "log.eval"
    data = bytearray((golden / "harness/inspect.eval").read_bytes())
    with zipfile.ZipFile(golden / "harness/inspect.eval") as archive:
        item = next(item for item in archive.infolist() if item.filename.startswith("samples/"))
    data[item.header_offset + 200 + item.compress_size // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"is not a whole \.eval file"):
        read_answers(path)
    path.write_bytes(bytes(data[:5000]))
    with pytest.raises(DataError, match=r"is not a whole \.eval file"):
        read_answers(path)


def test_samples_that_failed_have_no_answer(golden, tmp_path):
    path = tmp_path / "log.json"
    shutil.copy(golden / "harness/inspect.json", path)
    content = json.loads(path.read_text())
    content["samples"][0]["error"] = {"message": "timed out"}
    content["samples"][1]["output"]["choices"][0]["message"]["content"] = [
        {"type": "reasoning", "reasoning": "A"},
        {"type": "text", "text": "B"},
    ]
    path.write_text(json.dumps(content))
    found = read_answers(path)
    assert "000" not in found
    assert found["001"] == "B"
