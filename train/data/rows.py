"""Rows of training data: reading them, and refusing those that can't be trained on before any work begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from avem.errors import DataError
from avem.files import json_sha256, read_json_lines
from avem.records import Emotion, InstructionRow, Modality, PreferenceRow
from avem.train.data.targets import target_of, target_row

Row = TypeVar("Row", PreferenceRow, InstructionRow)

REJECTED_FIELDS = {
    "vr": "rejected_video_relevant",
    "er": "rejected_emotion_relevant",
    "irr": "rejected_irrelevant",
}
"""Field of each rejected answer, by the name it has in the losses."""


def read_preferences(path: Path) -> list[PreferenceRow]:
    """Read preference rows as `PreferenceRow.to_json` writes them, one JSON object a line or in a JSON list.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line is not such an object, an answer is empty or equals the chosen one, or ids repeat.
    """
    return _read(path, _preference_row)


def read_instructions(path: Path) -> list[InstructionRow]:
    """Read instruction rows as `InstructionRow.to_json` writes them, one JSON object a line or in a JSON list.

    An object with `clip_id` and `caption` or `transcript` instead of question and answer is a row too; see
    `avem.train.data.targets`.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line is not such an object, its question or answer is empty, or ids repeat.
    """
    return _read(path, instruction_row)


def _read(path: Path, parse: Callable[[dict[str, Any]], Row]) -> list[Row]:
    rows = read_json_lines(path, parse)
    if not rows:
        raise DataError(f"{path} holds no rows.")
    seen: set[str] = set()
    for row in rows:
        if row.row_id in seen:
            raise DataError(f"{path} has two rows with the row_id {row.row_id}; give each its own.")
        seen.add(row.row_id)
    return rows


def _preference_row(item: dict[str, Any]) -> PreferenceRow:
    if "row_id" not in item and "prompt" in item:
        raise ValueError("this is a row of the reference implementation; convert the file with `avem prefs convert`")
    emotion = item.get("emotion")
    irrelevant = item.get("rejected_irrelevant")
    row = PreferenceRow(
        row_id=str(item["row_id"]),
        clip_id=_text(item, "clip_id"),
        modality=Modality(item["modality"]),
        task=str(item.get("task", "")),
        question=_text(item, "question"),
        chosen=_text(item, "chosen"),
        rejected_video_relevant=_text(item, "rejected_video_relevant"),
        rejected_emotion_relevant=_text(item, "rejected_emotion_relevant"),
        rejected_irrelevant=None if irrelevant is None else _text(item, "rejected_irrelevant"),
        emotion=None if emotion is None else Emotion(emotion),
        provenance=item.get("provenance") or {},
    )
    for field in REJECTED_FIELDS.values():
        if getattr(row, field) is not None and getattr(row, field).strip() == row.chosen.strip():
            raise ValueError(f"row {row.row_id} has a {field} that equals its chosen answer")
    return row


def instruction_row(item: dict[str, Any]) -> InstructionRow:
    """An instruction row from its JSON object; see `read_instructions`.

    Raises:
        KeyError: A field is missing.
        ValueError: A field is empty, or the modality is none.
    """
    if field := target_of(item):
        return target_row({**item, "clip_id": _text(item, "clip_id")}, field, _text(item, field))
    return InstructionRow(
        row_id=str(item["row_id"]),
        clip_id=_text(item, "clip_id"),
        modality=Modality(item["modality"]),
        task=str(item.get("task", "")),
        question=_text(item, "question"),
        answer=_text(item, "answer"),
    )


def _text(item: dict[str, Any], field: str) -> str:
    value = item[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"row {item.get('row_id', '?')} has an empty {field}")
    return value


USUAL_SHARE = 0.05
"""Share of the rows that has to ask a question for it to be the usual one."""


def usual_question(rows: Sequence[PreferenceRow | InstructionRow]) -> str:
    """The question that rows ask most often; empty if each has its own, so that none of them suits other clips.

    Of questions that are asked equally often, it is the first.

    Example:
        >>> usual_question([])
        ''
    """
    questions = Counter(row.question.strip() for row in rows)
    if not questions:
        return ""
    question, count = questions.most_common(1)[0]
    common = count >= USUAL_SHARE * len(rows) and (count > 1 or len(rows) == 1)
    return question if common else ""


def rows_digest(rows: Sequence[PreferenceRow | InstructionRow]) -> str:
    """SHA-256 of the rows in their order."""
    return json_sha256([row.to_json() for row in rows])
