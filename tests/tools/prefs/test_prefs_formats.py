"""Other people's forms: nothing of ours is lost through the reference's JSON, and TRL takes what we export."""

from __future__ import annotations

import json

import pytest

from avem.errors import DataError, SettingError
from avem.records import Modality
from avem.tools.corpus.rows import preferences
from avem.tools.corpus.scene import draw_scenes
from avem.tools.prefs.checks.validate import validate
from avem.tools.prefs.formats import read_rows, to_trl, write_rows

ROWS = [row for scene in draw_scenes(8, 1) for row in preferences(scene)]


@pytest.mark.parametrize("form", ["rows", "reference"])
def test_rows_survive_a_form(tmp_path, form):
    write_rows(ROWS, tmp_path / "file", form)
    assert read_rows(tmp_path / "file") == ROWS
    assert validate(tmp_path / "file").errors == 0


def test_the_reference_form_as_others_write_it(tmp_path):
    entry = {
        "prompt": "<video>\n<audio>\nWhy?\nSay it.",
        "chosen": "a",
        "rejected": "b",
        "rejected_2": "c",
        "video": "part_1/7.mp4",
        "audio": "part_1/7.wav",
    }
    path = tmp_path / "reference.json"
    path.write_text(json.dumps([entry, entry | {"video_l": "8.mp4"}, entry | {"audio_l": "8.wav"}]))
    rows = read_rows(path)
    assert [row.modality for row in rows] == [Modality.AUDIOVISUAL, Modality.VISUAL, Modality.AUDIO]
    assert [(row.row_id, row.clip_id) for row in rows][:2] == [("part_1/7#1", "part_1/7"), ("part_1/7#2", "part_1/7")]
    first = rows[0]
    answers = (first.chosen, first.rejected_video_relevant, first.rejected_emotion_relevant)
    assert (first.question, *answers) == ("Why?\nSay it.", "a", "b", "c")


def test_faults_of_the_reference_form_name_their_entry(tmp_path):
    path = tmp_path / "reference.json"
    good = {"prompt": "<video>\n<audio>\nWhy?", "chosen": "a", "rejected": "b", "rejected_2": "c", "video": "7.mp4"}
    path.write_text(json.dumps([good, {name: good[name] for name in ("prompt", "chosen", "rejected")}, "text"]))
    with pytest.raises(DataError, match="entry 2 has no rejected_2"):
        read_rows(path)
    assert {fault.line for fault in validate(path).faults if fault.error} == {2, 3}
    path.write_text("[{]")
    with pytest.raises(DataError, match="not JSON"):
        read_rows(path)


def test_trl_reads_the_export_as_conversational_preferences(tmp_path):
    data_utils = pytest.importorskip("trl.data_utils", reason="TRL is not installed")
    write_rows(ROWS, tmp_path / "trl.jsonl", "trl")
    items = [json.loads(line) for line in (tmp_path / "trl.jsonl").read_text().splitlines()]
    assert len(items) == 2 * len(ROWS)
    assert all(data_utils.is_conversational(item) for item in items)
    assert items[1]["rejected"][0]["content"] == ROWS[0].rejected_emotion_relevant


def test_each_rejected_answer_becomes_a_pair():
    from dataclasses import replace

    row = replace(ROWS[0], rejected_irrelevant="The sea.")
    assert [item["rejected_kind"] for item in to_trl(row)] == [
        "rejected_video_relevant",
        "rejected_emotion_relevant",
        "rejected_irrelevant",
    ]


def test_llama_factory_finds_the_file_and_its_columns(tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "other.json"}}')
    path, info = write_rows(ROWS, tmp_path / "prefs.jsonl", "llama-factory", lambda clip: f"media/{clip}.mp4")
    known = json.loads(info.read_text())
    assert known["other"] == {"file_name": "other.json"}
    columns = known["prefs"]["columns"]
    item = json.loads(path.read_text().splitlines()[0])
    assert known["prefs"]["ranking"] is True
    assert all(column in item for column in columns.values())
    text = item["conversations"][0]["value"]
    assert (text.count("<video>"), text.count("<audio>")) == (len(item["videos"]), len(item["audios"])) == (1, 1)


def test_an_unknown_form_is_refused(tmp_path):
    with pytest.raises(SettingError, match="--to"):
        write_rows(ROWS, tmp_path / "x", "csv")
