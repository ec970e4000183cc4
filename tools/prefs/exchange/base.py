"""What the formats share: an entry for each rejected answer, the clip's files, and the row that an entry is of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from avem.errors import DataError
from avem.records import Emotion, Modality, PreferenceRow
from avem.train.data.rows import REJECTED_FIELDS

OURS = "avem"
"""Column that holds the whole row as JSON text, so that nothing is lost; other programs leave it alone."""
KIND = "rejected_kind"

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """Where the media of clips are."""

    video: str = "{clip}.mp4"
    audio: str = "{clip}.wav"
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Row id to the clip whose media are its rejected input (Eq. 5); only for formats that take one."""

    def files(self, clip_id: str) -> tuple[str, str]:
        """The video file and the sound file of a clip."""
        return self.video.replace("{clip}", clip_id), self.audio.replace("{clip}", clip_id)


@dataclass(frozen=True, slots=True)
class Format:
    """A format of preference data."""

    name: str
    """As `--to` and `--from` have it."""
    read: Callable[[Path], list[PreferenceRow]]
    write: Callable[[Sequence[PreferenceRow], Path, ClipFiles], dict[Path, bytes]] | None = None
    """Files and their content; None where the format is only read."""
    note: str = ""
    """What to do with the files."""


def pairs(rows: Iterable[PreferenceRow]) -> Iterator[tuple[PreferenceRow, str, str]]:
    """Each row with each of its rejected answers: the row, the answer's kind, the answer; equal answers once."""
    for row in rows:
        seen: set[str] = set()
        for kind in REJECTED_FIELDS.values():
            answer = getattr(row, kind)
            if answer is not None and answer not in seen:
                seen.add(answer)
                yield row, kind, answer


def remembered(row: PreferenceRow, kind: str) -> Entry:
    """The columns that lead back to a row."""
    return {KIND: kind, OURS: json.dumps(row.to_json(), ensure_ascii=False)}


def rows_of(entries: Iterable[Entry], plain: Callable[[Entry, int], PreferenceRow], path: Path) -> list[PreferenceRow]:
    """The rows that entries are of, each once; entries of other programs become rows with one rejected answer.

    Args:
        entries: As the file has them.
        plain: Makes a row of an entry without `OURS`, and its number from 1.
        path: The file, for messages.

    Raises:
        DataError: An entry lacks a field, or there is none.
    """
    rows: dict[str, PreferenceRow] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            text = entry.get(OURS)
            row = own_row(json.loads(text)) if text else plain(entry, number)
            _check(row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path} entry {number} is no preference of this format ({what}).") from error
        if rows.setdefault(row.row_id, row) != row:
            raise DataError(f"{path} has two different rows with the row_id {row.row_id}; give each its own.")
    if not rows:
        raise DataError(f"{path} holds no preferences.")
    return list(rows.values())


def own_row(item: Mapping[str, Any]) -> PreferenceRow:
    """A row from its JSON object."""
    emotion = item.get("emotion")
    known = {**item, "modality": Modality(item["modality"]), "emotion": None if emotion is None else Emotion(emotion)}
    return PreferenceRow(**known)


def pair_row(
    row_id: str, clip_id: str, modality: Modality, question: str, chosen: str, rejected: str, **provenance: Any
) -> PreferenceRow:
    """A row from a pair of answers; the one rejected answer stands for both kinds, which makes the loss that of DPO."""
    task = str(provenance.pop("task", ""))
    return PreferenceRow(row_id, clip_id, modality, task, question, chosen, rejected, rejected, None, None, provenance)


def clip_of(media: str) -> str:
    """A clip id from a file: its path without suffix."""
    return str(PurePosixPath(media.replace("\\", "/").lstrip("/")).with_suffix(""))


def modality_of(videos: Sequence[str], audios: Sequence[str]) -> Modality:
    """What a question is about, as far as its media tell.

    Raises:
        ValueError: There are none.
    """
    if not (videos or audios):
        raise ValueError("it names neither video nor sound")
    if videos and audios:
        return Modality.AUDIOVISUAL
    return Modality.VISUAL if videos else Modality.AUDIO


def without_marks(text: str) -> str:
    """A prompt without the placeholders of media at its start."""
    text = text.lstrip()
    for mark in ("<video>", "<audio>") * 2:
        text = text.removeprefix(mark).lstrip()
    return text


def _check(row: PreferenceRow) -> None:
    for name in ("question", "chosen", "rejected_video_relevant", "rejected_emotion_relevant", "clip_id"):
        value = getattr(row, name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} is empty")
