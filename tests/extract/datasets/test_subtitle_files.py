"""Subtitle files as people save them: encodings, markup, missing blank lines, and what is no subtitle file."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.errors import DataError
from avem.extract.datasets.subtitle_files import LARGEST, Cue, decode, joined, parse_cues, read_cues, spoken

SRT = """1
00:00:00,500 --> 00:00:02,000
<i>Où est-il ?</i>
{\\an8}Là-bas !

2
00:00:02,000 --> 00:00:03,250
<font color="#fff">Viens &amp; regarde.</font>
"""
SAID = "Où est-il ? Là-bas ! Viens & regarde."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_encoding_and_line_end_says_the_same(tmp_path, encoding):
    for number, end in enumerate(("\n", "\r\n", "\r")):
        path = tmp_path / f"{number}.srt"
        path.write_bytes(SRT.replace("\n", end).encode(encoding))
        cues = read_cues(path)
        assert [(cue.start_s, cue.end_s) for cue in cues] == [(0.5, 2.0), (2.0, 3.25)]
        assert joined(cues) == SAID


def test_webvtt_has_headers_notes_styles_and_speakers():
    text = (
        "WEBVTT - Title\nKind: captions\n\nNOTE not shown\nnot shown either\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:01.000 --> 00:02.5 align:start position:0%\n<v Mary>Come <00:01.500><c.yellow>in</c>.\n\n"
        "01:00:00.000 --> 01:00:01.000\nLate.\n"
    )
    assert parse_cues(text, "a.vtt") == [Cue(1.0, 2.5, "Come in."), Cue(3600.0, 3601.0, "Late.")]


def test_cues_without_an_empty_line_between_them_stay_apart():
    text = "1\n00:00:00,000 --> 00:00:01,000\nOne.\n2\n00:00:01,000 --> 00:00:02,000\nTwo.\n"
    assert [cue.text for cue in parse_cues(text, "a.srt")] == ["One.", "Two."]


def test_scrolling_captions_are_said_once():
    cues = [Cue(0, 1, "Good"), Cue(1, 2, "Good"), Cue(2, 3, "morning"), Cue(3, 4, "Good")]
    assert joined(cues) == "Good morning Good"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n00:00:aa,000 --> 00:00:01,000\nHm.\n", "line 2 has no times"),
        ("1\n00:00:01 --> 00:00:02\nHm.\n", "line 2 has no times"),
        ("path,emotion\na.mp4,joy\n", "holds no subtitles"),
    ],
)
def test_what_is_no_subtitle_file_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "a.srt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_cues(path)


def test_a_huge_file_is_refused_and_an_empty_one_says_nothing(tmp_path):
    (tmp_path / "big.srt").write_bytes(b" " * (LARGEST + 1))
    with pytest.raises(DataError, match="which no subtitle file has"):
        read_cues(tmp_path / "big.srt")
    for text in ("", "\n \n", "WEBVTT\n"):
        (tmp_path / "none.vtt").write_text(text)
        assert read_cues(tmp_path / "none.vtt") == []


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.srt")
    (tmp_path / "folder.srt").mkdir()
    for name in ("pipe.srt", "folder.srt"):
        with pytest.raises(DataError, match=f"{name} is a"):
            read_cues(tmp_path / name)


def test_a_cue_belongs_to_the_window_that_has_most_of_it():
    cues = [Cue(1, 3, "a"), Cue(28, 31, "b"), Cue(29.5, 33, "c"), Cue(0, 90, "all"), Cue(60, 60, "now")]
    assert spoken(cues, (0.0, 30.0)) == "a b all"
    assert spoken(cues, (30.0, 60.0)) == "c all"
    assert spoken(cues, (60.0, 70.5)) == "all now"
    assert spoken(cues, None) == "a b c all now"


@given(st.binary(max_size=400))
def test_no_bytes_end_in_a_traceback(data):
    try:
        cues = parse_cues(decode(data), "x.srt")
    except DataError as error:
        assert str(error).startswith("x.srt ")  # noqa: PT017
    else:
        assert all(cue.text == " ".join(cue.text.split()) for cue in cues)
