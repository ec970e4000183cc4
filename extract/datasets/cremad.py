"""CREMA-D (Cao et al., 2014): `VideoFlash/ACTOR_SENTENCE_EMOTION_LEVEL.flv`, sound in `AudioWAV`."""

from __future__ import annotations

import re
from pathlib import Path

from avem.emotions import parse_emotion
from avem.extract.datasets.base import DatasetReader, relative, videos_in
from avem.extract.datasets.tables import read_csv
from avem.records import Clip

NAME = "crema-d"
FILE_NAME = re.compile(r"(\d+)_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}")
VOTES = {"voice": "VoiceVote", "face": "FaceVote", "both": "MultiModalVote"}
"""What raters were shown, and the column of their most frequent answer; ties are `A:D`."""


def recognises(root: Path) -> bool:
    """Whether the video folder holds a file with a CREMA-D name."""
    return any(FILE_NAME.fullmatch(path.stem) for path in videos_in(root / "VideoFlash"))


def read(root: Path) -> list[Clip]:
    """All clips with the emotion that was acted; raters' votes, if there, are added to the raw label."""
    table = root / "processedResults" / "summaryTable.csv"
    votes = {row["FileName"]: row for row in read_csv(table, ("FileName",))} if table.is_file() else {}
    clips = []
    for path in videos_in(root / "VideoFlash"):
        match = FILE_NAME.fullmatch(path.stem)
        if match is None:
            continue
        sound = root / "AudioWAV" / f"{path.stem}.wav"
        clips.append(
            Clip(
                clip_id=f"{NAME}/{path.stem}",
                dataset=NAME,
                path=relative(path, root),
                emotion=parse_emotion(match[3]),
                emotions_raw=" ".join([match[3], *_votes(votes.get(path.stem, {}))]),
                source=f"{NAME}/actor-{match[1]}",
                audio_path=relative(sound, root) if sound.is_file() else "",
            )
        )
    return clips


def _votes(row: dict[str, str]) -> list[str]:
    return [f"{name}={row[column]}" for name, column in VOTES.items() if row.get(column)]


READER = DatasetReader(NAME, "VideoFlash/1001_DFA_ANG_XX.flv", recognises, read)
