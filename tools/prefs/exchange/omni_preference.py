"""Omni-Preference (Omni-RRM, 2026): `dataset_jsonl/{video,audio}/final_rl_data.jsonl`.

A line has `videos` or `audios`, a user message whose `### Context` holds the question and two candidates, and a
`solution` with the scores and which is `better`. Ties and images are left out.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from avem.errors import DataError
from avem.files import read_json_lines
from avem.records import PreferenceRow
from avem.tools.prefs.exchange.base import Entry, Format, clip_of, modality_of, pair_row, rows_of

logger = logging.getLogger(__name__)

HEADING = "### Context"
LABELS = ("Question", "Candidate A", "Candidate B")
DATA = "data/"
"""Start of the paths of media, which is no folder of the dataset."""


def read(path: Path) -> list[PreferenceRow]:
    """The pairs of a file that people or teachers told apart, on video or sound.

    Raises:
        DataError: A line is something else, or no pair is left.
    """
    entries = read_json_lines(path, dict)
    kept = [
        (n, entry) for n, entry in enumerate(entries, start=1) if not entry.get("images") and _better(entry) != "equal"
    ]
    if left := len(entries) - len(kept):
        logger.info("%s: %d of %d pairs are ties or about images, and are left out.", path, left, len(entries))
    if not kept:
        raise DataError(f"{path} holds no pair on video or sound with a better answer.")
    return rows_of(({**entry, "line": number} for number, entry in kept), _plain, path)


def _better(entry: Entry) -> str:
    try:
        return str(json.loads(entry["solution"])["better"])
    except (KeyError, TypeError, ValueError):
        return ""


def _plain(entry: Entry, number: int) -> PreferenceRow:
    videos, audios = entry.get("videos") or [], entry.get("audios") or []
    message = next(item["content"] for item in reversed(entry["messages"]) if item["role"] == "user")
    question, first, second = _context(message)
    solution = json.loads(entry["solution"])
    better = solution["better"]
    if better not in ("A", "B"):
        raise ValueError(f"better is {better!r}, and should be A, B or equal")
    chosen, rejected = (first, second) if better == "A" else (second, first)
    modality = modality_of(videos, audios)
    clip = clip_of([*videos, *audios][0]).removeprefix(DATA)
    scores = {name: solution[name] for name in ("score_A", "score_B") if name in solution}
    name = f"omni-preference-{modality}-{entry['line']}"
    return pair_row(name, clip, modality, question, chosen, rejected, source="omni-preference", better=better, **scores)


def _context(message: str) -> tuple[str, str, str]:
    """The question and the two candidates of a message.

    Raises:
        ValueError: They are not all there, in this order.
    """
    _, found, context = message.partition(HEADING)
    between = r"\s+".join(rf"{label}:\s*(.+?)" for label in LABELS)
    match = re.search(rf"(?:^|\s){between}\s*\Z", context, re.DOTALL) if found else None
    if match is None:
        raise ValueError(f"its message has no {HEADING} with {', '.join(LABELS)}")
    question, first, second = (part.strip() for part in match.groups())
    return question, first, second


FORMAT = Format("omni-preference", read)
