"""What a source of instruction rows is, by its content. Imports little, so that a wrong path is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from avem.errors import DataError, MissingFileError
from avem.reading import parse_json, read_text

Source = Literal["clips", "captions", "items", "prefs", "merr"]
MERR_TEXTS = {"caption": "merr_coarse", "smp_reason_caption": "merr_fine"}
"""Fields of MERR's JSON that hold an account of a clip, with the task of the rows that are made of them."""
MERR_LABEL = "pseu_emotion"
UNKNOWN = (
    "{} is none of what instruction rows are made of: a dataset's folder, captions.jsonl, EmoReAlM-style items, "
    "preference rows, or MERR's JSON."
)


def recognise(path: Path) -> Source:
    """What a source is: a folder of clips, or a file known by its content.

    Raises:
        MissingFileError: There is no such file or folder.
        DataError: It is nothing that instruction rows are made of.
    """
    if path.is_dir():
        return "clips"
    if not path.is_file():
        raise MissingFileError(f"There is no file or folder {path}; name a dataset's folder or a file with SOURCE.")
    text = read_text(path)
    first = _first_object(text, path)
    if "captions" in first and "clip_id" in first:
        return "captions"
    if "choices" in first:
        return "items"
    if "chosen" in first:
        return "prefs"
    if {"question", "answer"} <= first.keys():
        raise DataError(f"{path} holds instruction rows already; give it to `avem train --stage sft --data`.")
    if text.lstrip().startswith("{") and is_merr(parse_json(text, str(path))):
        return "merr"
    raise DataError(UNKNOWN.format(path))


def is_merr(content: Any) -> bool:
    """Whether a JSON value has MERR's form: an object of objects, of which one has a field of MERR's."""
    fields = {*MERR_TEXTS, MERR_LABEL}
    return isinstance(content, dict) and any(isinstance(one, dict) and fields & one.keys() for one in content.values())


def _first_object(text: str, path: Path) -> dict[str, Any]:
    """The first entry of a list, or the first line where it is an object; empty where there is neither."""
    start = text.lstrip()
    if start.startswith("["):
        entries = parse_json(text, str(path))
        return entries[0] if entries and isinstance(entries[0], dict) else {}
    try:
        first = parse_json(start.partition("\n")[0], str(path))
    except DataError:
        return {}
    return first if isinstance(first, dict) else {}
