"""Answers about several clips as a table that fits 80 columns, a row for each clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePath

from avem.text.tables import Table
from avem.tools.ask.results import ClipAnswer, Condition, QuestionAnswer
from avem.tools.ask.text import said, shortened, times
from avem.tools.ask.worth.sentences import top_emotions

SHOWN_ANSWER = 40
"""Characters of an answer."""
CHANGES = {Condition.NO_SOUND: "no sound", Condition.NO_PICTURE: "no picture"}


def summary_tables(clips: Sequence[ClipAnswer]) -> list[Table]:
    """A table for each question; none where there are fewer than two clips.

    Args:
        clips: In their order; those that failed have a row that says so.
    """
    if len(clips) < 2:
        return []
    questions = list(dict.fromkeys(answer.question for clip in clips for answer in clip.answers))
    return [_table(question, clips, note=number == len(questions)) for number, question in enumerate(questions, 1)]


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the folders that all of them are in.

    Example:
        >>> short_names(["clips/a/1.mp4", "clips/b/1.mp4"]), short_names(["x", "y"])
        (['a/1.mp4', 'b/1.mp4'], ['x', 'y'])
    """
    parts = [PurePath(name).parts for name in names]
    folders = zip(*(each[:-1] for each in parts), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, folders))) if len(parts) > 1 else 0
    return [str(PurePath(*each[shared:])) for each in parts]


def label_note(clips: Sequence[ClipAnswer]) -> str:
    """How often the longest bar, or the emotion that is named, is the clip's label; empty where no label is known."""
    labelled = [clip for clip in clips if clip.known.label and top_emotions(clip.emotions)]
    right = sum(top_emotions(clip.emotions) == (clip.known.label,) for clip in labelled)
    return f"The feeling is the clip's label for {right} of {len(labelled)} clips with a label." if labelled else ""


def _table(question: str, clips: Sequence[ClipAnswer], *, note: bool) -> Table:
    labels = any(clip.known.label for clip in clips)
    drawn = any(clip.emotions is not None and clip.emotions.logprobs for clip in clips)
    rows = []
    for name, clip in zip(short_names([clip.name for clip in clips]), clips, strict=True):
        answer = next((each for each in clip.answers if each.question == question), None)
        if answer is None:
            rows.append([name, "", *([""] * labels), "(could not be used)", "", ""])
            continue
        feeling = " / ".join(top_emotions(clip.emotions)) or "-"
        text = " / ".join(shortened(said(part.answer), SHOWN_ANSWER) for part in answer.parts)
        changes = [_changed(answer, each) for each in CHANGES]
        rows.append([name, feeling, *([clip.known.label or "-"] * labels), text, *changes])
    known = any(answer.change(each) is not None for clip in clips for answer in clip.answers for each in CHANGES)
    notes = [
        "Feeling: the longest bar." if drawn else "",
        "No sound, no picture: how likely the same answer is without it." if known else "",
        label_note(clips),
    ]
    header = ["clip", "feeling", *(["label"] * labels), "answer", *CHANGES.values()]
    return Table.of(header, rows, question, " ".join(filter(None, notes)) if note else "")


def _changed(answer: QuestionAnswer, condition: Condition) -> str:
    """What becomes of an answer under a condition, in a few words; empty where the clip lacks that side."""
    if condition not in answer.conditions:
        return ""
    change = answer.change(condition)
    if change is not None:
        return times(change).removesuffix(" likely").replace(" times", "x").replace("about as", "the same")
    same = all(part.readings[condition].answer == part.answer for part in answer.parts)
    return "same words" if same else "other words"
