"""AVHBench (Sung-Bin et al., ICLR 2025): does a model see what it only hears, and hear what it only sees?

Its QA file is a JSON list of `video_id, task, text, label`. Captioning is not yes/no and is left out.
"""

from __future__ import annotations

from pathlib import Path

from avem.evaluate.hallucination.base import YesNoSet, checked, entries_of, field, yes_no
from avem.records import Question

CAPTIONING = "AV Captioning"


def read(path: Path) -> list[Question]:
    """The questions on hallucination and matching, in the file's order.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is no QA file of AVHBench; the message names the entry.
    """
    questions = []
    for number, (where, entry) in enumerate(entries_of(path, "AVHBench's QA file")):
        task = field(entry, "task", where)
        if task == CAPTIONING:
            continue
        video, text, label = (field(entry, name, where) for name in ("video_id", "text", "label"))
        questions.append(yes_no(f"avhbench-{number}", f"{video}.mp4", task, text, label, where))
    return checked(questions, path)


SET = YesNoSet("avhbench", "AVHBench", "its QA file (JSON: video_id, task, text, label)", read)
