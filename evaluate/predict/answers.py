"""Given answers: a model's raw replies from a JSON file, JSON Lines, a folder of text files or a harness's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avem.errors import DataError, MissingFileError
from avem.evaluate.harness.registry import harness_of_log
from avem.files import read_json_lines
from avem.reading import parse_json, read_bytes, read_text
from avem.sealed.checksums import CHECK, unseal

TEXT_FIELDS = ("prediction", "response", "output", "reply", "text", "answer")
"""Where an object with an `id` may keep the model's raw text; the first one present counts. `answer` comes last:
files that copy the question's fields have the right answer there."""


def read_answers(path: Path | str) -> dict[str, str]:
    """Read a model's raw answers.

    Args:
        path: A JSON object (id to text), a JSON list or JSON Lines of objects with `id` and one of `TEXT_FIELDS`, a
            folder of `<id>.txt`, as the reference writes them, or a log of a harness that `avem emorealm export`
            knows: lmms-eval's samples, VLMEvalKit's table, Inspect's `.eval` or JSON.

    Returns:
        Question id to raw text.

    Raises:
        MissingFileError: There is no such file or folder.
        DataError: It holds something else, no answer at all, or two different answers for one id.
    """
    path = Path(path)
    if path.is_dir():
        pairs = [(file.stem, read_text(file)) for file in sorted(path.glob("*.txt"))]
    elif (harness := harness_of_log(path)) is not None:
        pairs = harness.read(path)
    elif path.suffix == ".jsonl":
        pairs = read_json_lines(path, _pair)
    elif path.is_file():
        pairs = _read_json(path)
    else:
        raise MissingFileError(
            f"There are no answers at {path}; give JSON, JSON Lines, a folder of <id>.txt or a harness's log."
        )
    if not pairs:
        raise DataError(
            f"{path} holds no answers; expected {{id: text}}, objects with id and answer, or <id>.txt files."
        )
    answers: dict[str, str] = {}
    for name, text in pairs:
        if answers.setdefault(name, text) != text:
            raise DataError(f"{path} holds two different answers for {name}; keep one.")
    return answers


def _read_json(path: Path) -> list[tuple[str, str]]:
    try:
        content = parse_json(read_bytes(path), str(path), pairs=_no_key_twice)
    except _KeyTwiceError as error:
        raise DataError(f"{path} holds two different answers for {error}; keep one.") from error
    if isinstance(content, dict):
        wrong = next((name for name, text in content.items() if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"{path}: the answer of {wrong} is not text.")
        return list(content.items())
    if not isinstance(content, list):
        raise DataError(f"{path} should hold an object {{id: text}} or a list of objects with id and answer.")
    pairs = []
    for number, entry in enumerate(content, start=1):
        try:
            pairs.append(_pair(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} entry {number} is not an object with id and answer ({error}).") from error
    return pairs


class _KeyTwiceError(Exception):
    """An object with one key twice, which Python's reader would pass over."""


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise _KeyTwiceError(name)
    return found


def _pair(entry: dict[str, Any]) -> tuple[str, str]:
    if "key" in entry and CHECK in entry:  # a line of a bench's own log
        entry = unseal(entry, "a kept answer")
    field = next((field for field in TEXT_FIELDS if field in entry), "")
    if field == "answer" and "choices" in entry:
        raise ValueError("it is a question of the benchmark with its right answer, not a model's answer")
    text = entry.get(field)
    if not isinstance(text, str):
        raise ValueError(f"there is no text in any of {', '.join(TEXT_FIELDS)}")
    return str(entry["id"]), text
