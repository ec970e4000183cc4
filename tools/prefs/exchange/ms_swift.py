"""ms-swift: `messages` with `rejected_response`, and `rejected_videos` and `rejected_audios` for other media.

A row whose rejected input is known (Eq. 5) gets one more entry: the same answer, on the media of another clip in the
modality that the question is about.
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
    without_marks,
)

MEDIA = "media"
"""Kind of the entry whose media, not whose answer, are rejected."""


def write(rows: Sequence[PreferenceRow], path: Path, files: ClipFiles) -> dict[Path, bytes]:
    """One entry for each rejected answer, and one for the rejected input where it is known, JSON Lines."""
    entries: list[Entry] = []
    for row, kind, rejected in pairs(rows):
        entries.append({**_common(row, files), "rejected_response": rejected, **remembered(row, kind)})
    for row in rows:
        other = files.rejected.get(row.row_id)
        if other is None:
            continue
        (video, audio), (other_video, other_audio) = files.files(row.clip_id), files.files(other)
        streams = row.modality.streams
        media = {
            "rejected_videos": [other_video if "video" in streams else video],
            "rejected_audios": [other_audio if "audio" in streams else audio],
        }
        same = [{"role": "user", "content": _prompt(row)}, {"role": "assistant", "content": row.chosen}]
        entries.append({**_common(row, files), "rejected_messages": same, **media, **remembered(row, MEDIA)})
    return {path: json_lines(entries).encode()}


def _prompt(row: PreferenceRow) -> str:
    return f"<video><audio>{row.question}"


def _common(row: PreferenceRow, files: ClipFiles) -> Entry:
    video, audio = files.files(row.clip_id)
    messages = [{"role": "user", "content": _prompt(row)}, {"role": "assistant", "content": row.chosen}]
    return {"messages": messages, "videos": [video], "audios": [audio]}


def read(path: Path) -> list[PreferenceRow]:
    """Rows of a file that `write` made, or of any preference file of ms-swift with media.

    Raises:
        DataError: An entry is something else, or rejects media alone and is not of avem's making.
    """
    return rows_of(read_json_lines(path, dict), _plain, path)


def _plain(entry: Entry, number: int) -> PreferenceRow:
    videos, audios = entry.get("videos") or [], entry.get("audios") or []
    asked, chosen = (message["content"] for message in entry["messages"][-2:])
    rejected = entry.get("rejected_response") or (entry.get("rejected_messages") or [{}])[-1].get("content")
    if rejected is None or rejected == chosen:
        raise ValueError("it rejects no answer")
    rejected = rejected if isinstance(rejected, str) else rejected[-1]["content"]
    modality = modality_of(videos, audios)
    clip = clip_of([*videos, *audios][0])
    return pair_row(f"ms-swift-{number}", clip, modality, without_marks(asked), chosen, rejected, source="ms-swift")


FORMAT = Format("ms-swift", read, write, "swift rlhf --rlhf_type dpo --dataset FILE reads it.")
