"""Multiple-choice questions: the released `emorealm_v1.json`, read and checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from avem.errors import DataError, MissingFileError
from avem.files import json_objects
from avem.reading import as_utf8, parse_json, read_bytes
from avem.records import Question

TASKS = {
    "reasoning_basic_audio": "Basic, audio",
    "reasoning_basic_video": "Basic, visual",
    "modality_agreement": "Modality agreement",
    "reasoning_stress_audio": "Stress, audio",
    "reasoning_stress_video": "Stress, visual",
}
"""The five tasks (section 3.1) in the paper's order, with the names tables show."""

OWN_TASKS = {
    "reasoning_basic_audiovisual": "Basic, audiovisual",
    "reasoning_stress_audiovisual": "Stress, audiovisual",
}
"""Tasks that the paper does not have: questions about what is seen and heard."""

YES_NO_TASKS = frozenset({"modality_agreement", "reasoning_stress_audio", "reasoning_stress_video"})
"""Tasks whose two options are Yes and No."""

MAX_OPTIONS = 4
FIELDS = ("id", "video", "task", "question", "choices", "answer")
LABEL = re.compile(r"^\s*(?:\(([A-Za-z])\)|([A-Za-z])[.:)])\s*")
"""A letter before an option: `(A) `, `A. `, `A: ` or `A) `."""


def read_questions(path: Path | str) -> list[Question]:
    """Read and check a benchmark file in the form of the released `emorealm_v1.json`.

    Args:
        path: A JSON list or JSON Lines of objects with `id, video, task, question, choices, answer`; other fields are
            kept. Options may lack their letters, and the answer may be an option's letter, its text or both; see
            `with_letters`.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not such a list, a field is missing, an id occurs twice, there are not two to four options,
            their letters do not run A, B, C, D, or the answer is none of them; the message names the entry.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no benchmark file {path}; name one with --questions.")
    data = as_utf8(read_bytes(path), str(path))
    if path.suffix == ".jsonl":
        entries = [(where, entry) for _, where, entry in json_objects(path)]
    else:
        content = parse_json(data, str(path))
        if not isinstance(content, list) or not content:
            raise DataError(
                f"{path} should hold a list of questions and holds {_kind(content)}; JSON Lines end in .jsonl."
            )
        entries = [(f"{path} entry {number}", entry) for number, entry in enumerate(content, start=1)]
    questions = [with_letters(to_question(entry, where)) for where, entry in entries]
    check_questions(questions, str(path))
    return questions


def to_question(entry: Question | Mapping[str, Any], where: str) -> Question:
    """One entry of a benchmark file as a record; only the fields' presence and types are checked here.

    Raises:
        DataError: A field is missing or of the wrong type.
    """
    if isinstance(entry, Question):
        return entry
    if not isinstance(entry, Mapping):
        raise DataError(f"{where} should be an object with the fields {', '.join(FIELDS)}, not {_kind(entry)}.")
    missing = [name for name in FIELDS if name not in entry]
    if missing:
        raise DataError(f"{where} ({entry.get('id', 'no id')}) has no {', '.join(missing)}.")
    choices = entry["choices"]
    if isinstance(choices, Mapping) and list(choices) == list("ABCD"[: len(choices)]):
        choices = [f"({letter}) {choice}" for letter, choice in choices.items()]
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{where} ({entry['id']}): choices should be a list of strings such as '(A) Yes'.")
    texts = {name: str(entry[name]) for name in FIELDS if name != "choices"}
    extra = {name: value for name, value in entry.items() if name not in FIELDS}
    return Question(**texts, choices=tuple(choices), extra=extra)


def with_letters(question: Question) -> Question:
    """The question as the released file has it: each option begins with its letter, and the answer is a letter.

    Args:
        question: Its options may lack letters, all of them. Its answer may be a letter (`B`, `(b)`), an option's text
            (`No`) or both (`(B) No`). Anything else stays, for `check_question` to refuse.

    Example:
        >>> asked = with_letters(Question("1", "1.mp4", "modality_agreement", "Do they agree?", ("Yes", "No"), "No"))
        >>> asked.choices, asked.answer
        (('(A) Yes', '(B) No'), 'B')
    """
    known, choices = letters(question), question.choices
    if not any(option_label(choice) in tuple(known) for choice in choices):
        choices = tuple(f"({letter}) {choice.strip()}" for letter, choice in zip("ABCD", choices, strict=False))
        choices += question.choices[len(choices) :]  # too many; `check_question` says so
    return replace(question, choices=choices, answer=_answer_letter(question.answer, choices, known))


def _answer_letter(answer: str, choices: Sequence[str], known: str) -> str:
    """The letter that an answer means; the answer itself where that is not certain."""
    if (bare := answer.strip().strip("().: ").upper()) in tuple(known):
        return bare
    texts = [option_text(choice).casefold() for choice in choices[: len(known)]]
    label = option_label(answer)
    if label in tuple(known) and option_text(answer).casefold() == texts[known.index(str(label))]:
        return str(label)
    same = [letter for letter, text in zip(known, texts, strict=True) if text == answer.strip().casefold()]
    return same[0] if len(same) == 1 else answer


def check_questions(questions: Iterable[Question], where: str) -> None:
    """Refuse questions that can't be scored.

    Raises:
        DataError: There is none, an id occurs twice, or `check_question` refuses one.
    """
    ids = Counter(question.id for question in questions)
    if not ids:
        raise DataError(f"{where} holds no questions.")
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise DataError(f"{where}: the id {twice[0]} occurs {ids[twice[0]]} times ({len(twice)} such ids).")
    for question in questions:
        check_question(question, where)


def check_question(question: Question, where: str) -> None:
    """Refuse a question without two to four options lettered from A, or with an answer that is none of them.

    Raises:
        DataError: Names the question and what is wrong with it.
    """
    count = len(question.choices)
    if not 2 <= count <= MAX_OPTIONS:
        raise DataError(f"{where}: {question.id} has {count} options; EmoReAlM questions have two to {MAX_OPTIONS}.")
    for expected, choice in zip("ABCD", question.choices, strict=False):
        if option_label(choice) != expected:
            raise DataError(f"{where}: option {choice!r} of {question.id} should start with ({expected}).")
    if question.answer.upper() not in letters(question):
        raise DataError(f"{where}: the answer {question.answer!r} of {question.id} is none of its options.")


def letters(question: Question) -> str:
    """The letters of a question's options, such as `"ABCD"`."""
    return "ABCD"[: len(question.choices)]


def option_label(choice: str) -> str | None:
    """The letter an option starts with, upper case, or None."""
    match = LABEL.match(choice)
    return (match.group(1) or match.group(2)).upper() if match else None


def option_text(choice: str) -> str:
    """An option without its letter."""
    return LABEL.sub("", choice, count=1).strip()


def polarity(choice: str) -> str | None:
    """`"yes"` or `"no"` where that is an option's first word, else None."""
    first = re.match(r"(yes|no)\b", option_text(choice).lower())
    return first.group(1) if first else None


def polarities(question: Question) -> dict[str, str]:
    """Letter to `"yes"` or `"no"` for a question that offers one of each; empty for any other question."""
    said = {letter: polarity(choice) for letter, choice in zip(letters(question), question.choices, strict=True)}
    if sorted(str(value) for value in said.values()) != ["no", "yes"]:
        return {}
    return {letter: value for letter, value in said.items() if value}


def prompt_text(question: Question, style: str = "letters") -> str:
    """The prompt: with its options (the reference's prompt), or alone for `style="cloze"`."""
    return question.question if style == "cloze" else " ".join((question.question, *question.choices))


def task_name(task: str) -> str:
    """A task's name for tables; a task of another benchmark keeps its own.

    Example:
        >>> task_name("reasoning_basic_video"), task_name("reasoning_basic_audiovisual"), task_name("my_own")
        ('Basic, visual', 'Basic, audiovisual', 'my own')
    """
    return (TASKS | OWN_TASKS).get(task, task.replace("_", " "))


def in_order(tasks: Iterable[str]) -> list[str]:
    """Tasks in the paper's order, others after them as they come."""
    known = list(TASKS)
    return sorted(dict.fromkeys(tasks), key=lambda task: known.index(task) if task in TASKS else len(known))


def _kind(value: Any) -> str:
    if isinstance(value, list) and not value:
        return "an empty list"
    return {dict: "an object", list: "a list", str: "text", type(None): "nothing"}.get(type(value), "something else")
