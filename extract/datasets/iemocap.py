"""IEMOCAP (Busso et al., 2008): the sound of every utterance, with the label that most raters agreed on.

Pictures are of whole dialogues, both speakers in one; `avem utterances` cuts them. IEMOCAP has no official split. The
split is the session, and the fifth is the one that is usually tested on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avem.emotions import parse_emotion
from avem.extract.datasets.base import DatasetReader, files_in, has_file, relative
from avem.records import Clip, Emotion
from avem.text.csv_tables import read_table_text

NAME = "iemocap"
SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
LINE = re.compile(r"^\[(\d+\.\d+) - (\d+\.\d+)\]\t(Ses0\dM?F?_\w+?_[FM]\d+)\t(\w+)\t", re.MULTILINE)
"""A line of `EmoEvaluation`: `[6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[...]`."""
EXCITED = "exc"
"""Counted as happiness, as is usual with IEMOCAP; the raw label keeps it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a dialogue."""

    name: str
    session: str
    start_s: float
    end_s: float
    label: str

    @property
    def dialogue(self) -> str:
        """Name of its dialogue, such as `Ses01F_impro01`."""
        return self.name.rpartition("_")[0]

    @property
    def emotion(self) -> Emotion | None:
        """The emotion of its label, None for frustration, other, and where raters did not agree."""
        return Emotion.HAPPINESS if self.label == EXCITED else parse_emotion(self.label)

    @property
    def on_the_left(self) -> bool:
        """Whether the speaker is in the left half of the picture: the one whose letter the dialogue has is."""
        return self.name[5] == self.name.rpartition("_")[2][0]

    @property
    def speaker(self) -> str:
        """The speaker, such as `iemocap/Session1-F`."""
        return f"{NAME}/{self.session}-{self.name.rpartition('_')[2][0]}"


def recognises(root: Path) -> bool:
    """Whether a session with evaluations is there."""
    return any((root / session / "dialog" / "EmoEvaluation").is_dir() for session in SESSIONS)


def utterances(root: Path) -> Iterator[Utterance]:
    """All utterances with a label, session by session."""
    for session in SESSIONS:
        folder = root / session / "dialog" / "EmoEvaluation"
        for path in files_in(folder, "Ses*.txt"):
            for start, end, name, label in LINE.findall(read_table_text(path)):
                yield Utterance(name, session, float(start), float(end), label)


def read(root: Path) -> list[Clip]:
    """Every utterance whose sound is there, as a clip without a picture."""
    clips = []
    for said in utterances(root):
        path = root / said.session / "sentences" / "wav" / said.dialogue / f"{said.name}.wav"
        if has_file(path):
            clips.append(
                Clip(
                    clip_id=f"{NAME}/{said.name}",
                    dataset=NAME,
                    path=relative(path, root),
                    emotion=said.emotion,
                    emotions_raw=said.label,
                    split=said.session.lower(),
                    source=said.speaker,
                )
            )
    return clips


READER = DatasetReader(NAME, "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", recognises, read)
