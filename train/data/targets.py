"""Captions and transcripts as supervised rows, to align a projector: the text answers a standing request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from avem.records import InstructionRow, Modality

REQUESTS = {
    "caption": (
        "Describe what is seen in the clip.",
        "What happens in this video?",
        "Give a short account of the video.",
        "Say in a sentence or two what the clip shows.",
    ),
    "transcript": (
        "Write down what is said in the clip.",
        "What does the speaker say?",
        "Transcribe the speech.",
        "Repeat the spoken words as text.",
    ),
}
"""Questions for each kind of target."""
MODALITIES = {"caption": Modality.VISUAL, "transcript": Modality.AUDIO}


def target_of(item: Mapping[str, Any]) -> str | None:
    """The field that holds a target instead of question and answer, or None for an ordinary row."""
    if "question" in item or "answer" in item:
        return None
    return next((field for field in REQUESTS if field in item), None)


def target_row(item: Mapping[str, Any], field: str, text: str) -> InstructionRow:
    """A caption or transcript as an instruction row; which request it answers follows from the row's id alone.

    Args:
        item: Has `clip_id`; `row_id` and `modality` are made where they are missing.
        field: `caption` or `transcript`.
        text: The target.
    """
    row_id = str(item.get("row_id") or f"{item['clip_id']}#{field}")
    requests = REQUESTS[field]
    index = int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8]) % len(requests)
    modality = Modality(item.get("modality", MODALITIES[field]))
    return InstructionRow(row_id, str(item["clip_id"]), modality, field, requests[index], text)
