"""Paths that data names stay inside their folder, on reading and on writing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.errors import DataError
from avem.evaluate.report.media import find_media
from avem.guards.inside import inside
from avem.tools.prefs.survey.pages import SurveyOptions, make_survey

ESCAPES = [
    "../victim.txt",
    "../../victim.txt",
    "a/../../victim.txt",
    "/etc/passwd",
    "..\\victim.txt",
    "C:\\x",
    "C:x",
    "\\\\host\\x",
    "a\0b",
    "a\nb",
    "x" * 300,
    "x/" * 3000 + "x",
    "",
    ".",
    "..",
    "\ud800",
]


@pytest.fixture
def clips(tmp_path):
    """A folder of clips beside a file that nobody is to read or write."""
    (tmp_path / "clips" / "part").mkdir(parents=True)
    (tmp_path / "clips" / "part" / "1.mp4").write_bytes(b"clip")
    (tmp_path / "victim.txt").write_text("secret")
    (tmp_path / "clips" / "out").symlink_to("..")
    (tmp_path / "clips" / "file").symlink_to("../victim.txt")
    (tmp_path / "clips" / "same").symlink_to("part/1.mp4")
    return tmp_path / "clips"


@pytest.mark.parametrize("name", [*ESCAPES, "out/victim.txt", "file"])
def test_a_path_that_leaves_is_refused_by_name(clips, name):
    with pytest.raises(DataError, match="q7"):
        inside(clips, name, "q7")
    assert find_media(name, [clips]) is None


@pytest.mark.parametrize("name", ["part/1.mp4", "./part/1.mp4", "same", "new.mp4", "..a/b", "ü/名.mp4"])
def test_a_path_that_stays_is_taken(clips, name):
    assert inside(clips, name) == clips / name


@given(st.text(max_size=60))
def test_no_name_leaves(name):
    try:
        path = inside(Path("/nowhere/clips"), name)
    except DataError:
        return
    assert os.path.normpath(path).startswith("/nowhere/clips/")


@pytest.mark.parametrize("name", [*ESCAPES[:-1], "out/victim.txt", "file"])
def test_a_survey_neither_reads_nor_writes_outside(clips, name):
    question = {
        "question_id": "q7",
        "video": name,
        "task": "reasoning_basic_audio",
        "question": "Why?",
        "choices": ["(A) x", "(B) y"],
        "answer": "A",
    }
    source = clips.parent / "q.json"
    source.write_text(json.dumps([question]))
    before = sorted(clips.parent.rglob("*"))
    out = clips.parent / "survey"
    try:
        make_survey(SurveyOptions(source=source, out=out, media=clips))
    except DataError as error:
        assert "Errno" not in str(error)  # noqa: PT017
    else:
        assert not name.strip("."), "only a question without a clip has none to copy"
    assert (clips.parent / "victim.txt").read_text() == "secret"
    assert [path for path in sorted(clips.parent.rglob("*")) if out not in (path, *path.parents)] == before
    assert not any(path.read_bytes() == b"secret" for path in out.rglob("*") if path.is_file())
