"""Subtasks of the stress test (section 3.1, Table 14): is the cue that a question names in the clip?

A question whose right answer is yes names a cue that is there and explains the emotion. One whose answer is no names a
cue that is there without explaining it (`spurious`), or one that is not there (`hallucinated`). The released benchmark
does not say which; `avem emorealm subtasks` labels these questions in a side file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avem.errors import DataError, MissingFileError
from avem.evaluate.emorealm.questions import polarities
from avem.files import read_json_lines
from avem.records import Question

PRESENT, SPURIOUS, HALLUCINATED = "no_hallucination", "spurious", "hallucinated"
SUBTASKS = (PRESENT, SPURIOUS, HALLUCINATED)
"""Names of the three subtasks, as benchmark files have them."""

STRESS_TASKS = ("reasoning_stress_audio", "reasoning_stress_video")


def says_no(question: Question) -> bool:
    """Whether a question's right answer is No."""
    return polarities(question).get(question.answer.upper()) == "no"


def unlabelled(questions: Iterable[Question]) -> list[Question]:
    """Stress questions with the answer No that carry no subtask."""
    return [q for q in questions if q.task in STRESS_TASKS and says_no(q) and not q.extra.get("subtask")]


def subtask_note(questions: Sequence[Question]) -> str:
    """A sentence for tables that lack Table 14's columns; empty where nothing is missing."""
    missing = len(unlabelled(questions))
    if not missing:
        return ""
    return (
        f"Spurious and hallucinated cues are not scored for {missing} stress questions, which carry no subtask; "
        "`avem emorealm subtasks` labels them, and --subtasks reads the labels."
    )


def read_subtasks(path: Path) -> dict[str, str]:
    """Read a side file of subtasks: JSON Lines of objects with `id` and `subtask`; other fields are ignored.

    Args:
        path: As `avem emorealm subtasks` writes it.

    Returns:
        Question id to one of `SUBTASKS`.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line is something else, or a question has two different labels.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file of subtasks {path}; `avem emorealm subtasks` makes one.")
    found: dict[str, str] = {}
    for name, subtask in read_json_lines(path, _label):
        if found.setdefault(name, subtask) != subtask:
            raise DataError(f"{path} gives {name} two different subtasks; keep one.")
    if not found:
        raise DataError(f"{path} holds no subtasks; expected lines such as {json.dumps(_EXAMPLE)}.")
    return found


_EXAMPLE = {"id": "12", "subtask": SPURIOUS}


def _label(entry: Mapping[str, object]) -> tuple[str, str]:
    subtask = entry["subtask"]
    if subtask not in SUBTASKS:
        raise ValueError(f"the subtask is {subtask!r}, not one of {', '.join(SUBTASKS)}")
    return str(entry["id"]), str(subtask)


def with_subtasks(questions: Iterable[Question], labels: Mapping[str, str]) -> list[Question]:
    """Questions with the side file's subtasks; a question's own subtask is kept where the file has none.

    Raises:
        DataError: No label is for any of the questions, or one contradicts the question's right answer.
    """
    questions = list(questions)
    if labels and not labels.keys() & {question.id for question in questions}:
        raise DataError("None of the subtasks is for a question of the benchmark; compare the ids of the two files.")
    labelled = []
    for question in questions:
        subtask = labels.get(question.id)
        if subtask is None:
            labelled.append(question)
            continue
        if question.task in STRESS_TASKS and says_no(question) == (subtask == PRESENT):
            raise DataError(
                f"The subtask {subtask} of {question.id} contradicts its answer {question.answer}; correct the label."
            )
        labelled.append(replace(question, extra={**question.extra, "subtask": subtask}))
    return labelled
