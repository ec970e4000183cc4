"""EmotionHallucer (Xing et al., 2025): pairs of a basic and a hallucinated question; a pair counts if both are right.

The benchmark was not released when this was written. Read is the form of VideoHallucer, on which it builds: JSON
objects with the media's name (`video`, `audio`, `image` or `video_id`), a `type`, and `basic` and `hallucination`
(VideoHallucer's older files: `positive` and `negative`), each with `question` and `answer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.evaluate.hallucination.base import PAIR, YesNoSet, checked, entries_of, field, yes_no
from avem.records import Question

MEDIA = ("video", "audio", "image", "video_id")
SIDES = {"basic": ("basic", "positive"), "hallucinated": ("hallucination", "negative")}
"""Our name of each question of a pair, and the fields that hold it."""


def read(path: Path) -> list[Question]:
    """Both questions of every pair, in the file's order; a question's task is its type, with its side.

    Raises:
        MissingFileError: There is no such file.
        DataError: An entry is no such pair; the message names it.
    """
    questions = []
    for number, (where, entry) in enumerate(entries_of(path, "EmotionHallucer's pairs")):
        media = next((name for name in MEDIA if entry.get(name)), "")
        if not media:
            raise DataError(f"{where} names no media; expected one of {', '.join(MEDIA)}.")
        kind = str(entry.get("type") or "emotion")
        for side, names in SIDES.items():
            asked = _side(entry, names, where)
            text, answer = (field(asked, name, f"{where}, {side}") for name in ("question", "answer"))
            name = f"emotionhallucer-{number}-{side}"
            video = field(entry, media, where)
            questions.append(yes_no(name, video, f"{kind}, {side}", text, answer, where, **{PAIR: number}))
    return checked(questions, path)


def _side(entry: Mapping[str, Any], names: tuple[str, ...], where: str) -> Mapping[str, Any]:
    found = next((entry[name] for name in names if isinstance(entry.get(name), dict)), None)
    if found is None:
        raise DataError(f"{where} has no {names[0]} with question and answer.")
    return found  # type: ignore[no-any-return]


SET = YesNoSet("emotionhallucer", "EmotionHallucer", "pairs (JSON: video, type, basic, hallucination)", read)
