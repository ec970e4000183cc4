"""Rows as people keep them: JSON Lines or a JSON list, in UTF-8 or UTF-16, are the same rows."""

from __future__ import annotations

import json

import pytest

from avem.errors import DataError
from avem.tools.prefs.checks.validate import validate
from avem.tools.prefs.formats import is_reference
from avem.train.data.rows import read_instructions, read_preferences

PREFERENCE = {
    "row_id": "1",
    "clip_id": "a/1",
    "modality": "audio",
    "task": "t",
    "question": "What?",
    "chosen": "A voice that laughs.",
    "rejected_video_relevant": "A smile.",
    "rejected_emotion_relevant": "A shout.",
}
INSTRUCTION = {"row_id": "1", "clip_id": "a/1", "modality": "audio", "task": "t", "question": "What?", "answer": "So."}
FORMS = {
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "list": json.dumps,
    "indented list": lambda rows: "\n \n" + json.dumps(rows, indent=2),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("read", "row"), [(read_preferences, PREFERENCE), (read_instructions, INSTRUCTION)])
def test_every_form_gives_the_same_rows(tmp_path, read, row, form, encoding):
    rows = [row, row | {"row_id": "2"}]
    path = tmp_path / "rows.json"
    path.write_bytes(FORMS[form](rows).encode(encoding))
    (tmp_path / "plain.jsonl").write_text(FORMS["lines"](rows))
    assert read(path) == read(tmp_path / "plain.jsonl")


def test_a_fault_in_a_list_names_the_entry(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([INSTRUCTION, {**INSTRUCTION, "row_id": "2", "answer": ""}]))
    with pytest.raises(DataError, match=r"rows\.json entry 2: row 2 has an empty answer"):
        read_instructions(path)
    path.write_text(json.dumps([INSTRUCTION, 3]))
    with pytest.raises(DataError, match=r"entry 2 should hold an object"):
        read_instructions(path)


def test_the_references_form_is_told_from_a_list_of_our_rows(tmp_path):
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    ours.write_text(json.dumps([PREFERENCE]))
    theirs.write_text(json.dumps([{"prompt": "<video>\nWhat?", "chosen": "a", "rejected": "b", "video": "1.mp4"}]))
    assert (is_reference(ours), is_reference(theirs)) == (False, True)
    assert validate(ours).errors == 0
    with pytest.raises(DataError, match="avem prefs convert"):
        read_preferences(theirs)
