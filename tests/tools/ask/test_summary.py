"""The table after several clips: a row for each, in 80 columns."""

from __future__ import annotations

import math

from avem.tools.ask.results import ClipAnswer, Condition, Emotions, Known, PartAnswer, QuestionAnswer, Reading
from avem.tools.ask.summary import label_note, short_names, summary_tables

FULL, NO_SOUND, NO_PICTURE = Condition.FULL, Condition.NO_SOUND, Condition.NO_PICTURE
LONG = "The brows are drawn together and the voice trembles, which shows that she is afraid of what comes."


def clip(name, *, questions=("Why?",), label="", said=LONG, picture=True, scored=True):
    readings = {FULL: Reading(said, -1.0 if scored else None)}
    readings[NO_SOUND] = Reading("Other.", -1.0 - math.log(12) if scored else None)
    if picture:
        readings[NO_PICTURE] = Reading(said, -1.05 if scored else None)
    bars = {FULL: ((0.0, -3.0, -3.0, -3.0, -3.0, -3.0, -3.0),)}
    emotions = Emotions("?", bars) if scored else Emotions("?", named={FULL: ("fear",)})
    answers = tuple(QuestionAnswer(each, (PartAnswer(readings),)) for each in questions)
    return ClipAnswer(name, emotions=emotions, answers=answers, known=Known(label=label))


def test_every_clip_has_a_row_that_fits_a_terminal():
    clips = [clip("clips/anna/1.mp4"), clip("clips/ben/2.mp4", picture=False), ClipAnswer("clips/3.mp4", failed="no")]
    (table,) = summary_tables(clips)
    assert table.header == ("clip", "feeling", "answer", "no sound", "no picture")
    first, second, third = table.rows
    assert first[0] == "anna/1.mp4"
    assert first[1] == "happiness"
    assert first[2].endswith("[...]")
    assert first[3:] == ("12x less", "the same")
    assert second[3:] == ("12x less", "")
    assert third == ("3.mp4", "", "(could not be used)", "", "")
    assert table.title == "Why?"
    lines = table.text(80).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("clip ") for line in lines) == 1, "in one piece"


def test_labels_have_a_column_and_are_counted():
    clips = [clip("a", label="happiness"), clip("b", label="fear"), clip("c")]
    (table,) = summary_tables(clips)
    assert [row[2] for row in table.rows] == ["happiness", "fear", "-"]
    assert "The feeling is the clip's label for 1 of 2 clips with a label." in table.note
    assert label_note([clip("c")]) == ""


def test_without_likelihoods_words_are_compared():
    (table,) = summary_tables([clip("a", scored=False), clip("b", scored=False)])
    assert table.rows[0][1] == "fear"
    assert table.rows[0][3:] == ("other words", "same words")
    assert table.note == ""


def test_each_question_has_its_table_and_one_clip_has_none():
    tables = summary_tables([clip("a", questions=("Why?", "How?")), clip("b", questions=("Why?", "How?"))])
    assert [table.title for table in tables] == ["Why?", "How?"]
    assert [bool(table.note) for table in tables] == [False, True]
    assert summary_tables([clip("a")]) == []


def test_names_lose_the_folders_that_all_share():
    assert short_names(["/x/clips/1.mp4", "/x/clips/2.mp4"]) == ["1.mp4", "2.mp4"]
    assert short_names(["1.mp4", "x/1.mp4"]) == ["1.mp4", "x/1.mp4"]
