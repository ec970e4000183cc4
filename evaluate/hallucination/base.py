"""What the yes/no benchmarks share: their form, reading their JSON, and the questions made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError, MissingFileError
from avem.evaluate.emorealm.questions import check_questions
from avem.files import json_objects
from avem.records import Question

OPTIONS = ("(A) Yes", "(B) No")
PAIR = "pair"
"""Field of a question that names its pair; both questions of a pair have to be right."""


@dataclass(frozen=True, slots=True)
class YesNoSet:
    """A benchmark whose questions are answered by yes or no."""

    name: str
    """As the command calls it."""
    title: str
    looked_for: str
    """The file that it is read from."""
    read: Callable[[Path], list[Question]]
    """Questions of the user's own file, checked."""


def entries_of(path: Path, what: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a JSON list or of JSON Lines, each with where it is.

    Raises:
        MissingFileError: There is no such file.
        DataError: It holds something else.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; name {what} with --questions.")
    return [(where, entry) for _, where, entry in json_objects(path)]


def field(entry: Mapping[str, Any], name: str, where: str) -> str:
    """A text of an entry.

    Raises:
        DataError: It is missing, empty or no text.
    """
    value = entry.get(name)
    if not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{where} has no text in {name!r}.")
    return str(value).strip()


def yes_no(name: str, video: str, task: str, question: str, answer: str, where: str, **extra: Any) -> Question:
    """A question with the options Yes and No.

    Raises:
        DataError: The answer is neither.
    """
    said = answer.strip().lower().rstrip(".")
    if said not in ("yes", "no"):
        raise DataError(f"{where}: the answer is {answer!r}, and should be yes or no.")
    return Question(name, video, task, question, OPTIONS, "A" if said == "yes" else "B", extra)


def checked(questions: list[Question], path: Path) -> list[Question]:
    """The questions, once they are known to be complete.

    Raises:
        DataError: There is none, or an id occurs twice.
    """
    check_questions(questions, str(path))
    return questions
