"""TRL: conversational preferences (`prompt, chosen, rejected`), with the clip's files beside them.

TRL's own collators take no video and no sound: the text trains as it is, and the paths are for a collator of yours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avem.files import json_lines, read_json_lines
from avem.records import PreferenceRow
from avem.tools.prefs.exchange.base import (
    ClipFiles,
    Entry,
    Format,
    clip_of,
    modality_of,
    pair_row,
    pairs,
    remembered,
    rows_of,
)


def write(rows: Sequence[PreferenceRow], path: Path, files: ClipFiles) -> dict[Path, bytes]:
    """One entry for each rejected answer, JSON Lines."""
    entries = []
    for row, kind, rejected in pairs(rows):
        video, audio = files.files(row.clip_id)
        entries.append(
            {
                "prompt": [{"role": "user", "content": row.question}],
                "chosen": [{"role": "assistant", "content": row.chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "videos": [video],
                "audios": [audio],
                **remembered(row, kind),
            }
        )
    return {path: json_lines(entries).encode()}


def read(path: Path) -> list[PreferenceRow]:
    """Rows of a file that `write` made, or of any conversational preference file that names its media.

    Raises:
        DataError: An entry is something else.
    """
    return rows_of(read_json_lines(path, dict), _plain, path)


def _plain(entry: Entry, number: int) -> PreferenceRow:
    videos, audios = entry.get("videos") or [], entry.get("audios") or []
    question, chosen, rejected = (entry[name][-1]["content"] for name in ("prompt", "chosen", "rejected"))
    modality = modality_of(videos, audios)
    return pair_row(f"trl-{number}", clip_of([*videos, *audios][0]), modality, question, chosen, rejected, source="trl")


FORMAT = Format("trl", read, write, "load_dataset('json', data_files=...) gives what DPOTrainer takes.")
