"""Pairs of descriptions as MER2026's track 3 has them: CSV with `name, a1, a2` and, where labelled, `preference`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avem.errors import DataError, MissingFileError
from avem.extract.datasets.tables import read_csv
from avem.records import Question

LABELS = ("a1", "a2")
PROMPT = "Which of these two descriptions of the emotion fits the clip better?"
TASK = "mer_prefer"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two descriptions of one clip."""

    row: int
    """Its place in the file, from 0: a clip may have several pairs."""
    name: str
    a1: str
    a2: str
    preference: str
    """`a1`, `a2`, or empty where nobody's is known or people saw no difference."""

    def question(self) -> Question:
        """The pair as a question with two options; an unlabelled one has (A) as its answer, which nothing scores."""
        answer = "B" if self.preference == "a2" else "A"
        options = (f"(A) {self.a1}", f"(B) {self.a2}")
        return Question(f"pair-{self.row}", f"{self.name}.mp4", TASK, PROMPT, options, answer)


def read_pairs(path: Path) -> list[Pair]:
    """Read a table of pairs; line ends in descriptions become spaces.

    Raises:
        MissingFileError: There is no such file.
        DataError: A column or a description is missing, or a preference is none of `a1, a2, same, tie`.
    """
    if not path.is_file():
        raise MissingFileError(
            f"There is no file {path}; give track3_emoprefer.csv of MER2026 or another table of pairs."
        )
    pairs = []
    for number, row in enumerate(read_csv(path, ("name", "a1", "a2"), ("preference",))):
        where = f"{path} row {number + 1}"
        a1, a2 = (" ".join(row[label].split()) for label in LABELS)
        if not (row["name"] and a1 and a2):
            raise DataError(f"{where} lacks a name or a description.")
        said = row.get("preference", "").lower()
        if said not in (*LABELS, "same", "tie", ""):
            raise DataError(f"{where} has the preference {said!r}; it should be a1, a2 or same.")
        pairs.append(Pair(number, row["name"], a1, a2, said if said in LABELS else ""))
    if not pairs:
        raise DataError(f"{path} holds no pairs.")
    return pairs


def submission(pairs: Sequence[Pair], chosen: Mapping[int, str]) -> str:
    """Track 3's candidate table with a `preference` for every pair.

    Args:
        pairs: All pairs of the table.
        chosen: Row to `a1` or `a2`.

    Raises:
        DataError: A pair has no prediction.
    """
    missing = [pair for pair in pairs if pair.row not in chosen]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(pairs)} pairs have no prediction ({missing[0].name}); extract their clips first."
        )
    sink = io.StringIO()
    table = csv.writer(sink, lineterminator="\n")
    table.writerow(("name", "a1", "a2", "preference"))
    table.writerows((pair.name, pair.a1, pair.a2, chosen[pair.row]) for pair in pairs)
    return sink.getvalue()
