"""EmoPrefer: MER2026's `track3_emoprefer.csv` and `track3_emopreferv2.csv`, pairs of descriptions of one clip."""

from __future__ import annotations

from pathlib import Path

from avem.errors import DataError
from avem.evaluate.prefer.pairs import read_pairs
from avem.records import Modality, PreferenceRow
from avem.tools.prefs.exchange.base import Format, pair_row

QUESTION = "Describe the emotion of the person in the clip, and what shows it."
TASK = "emotion_description"


def read(path: Path) -> list[PreferenceRow]:
    """The labelled pairs of a table; those in which people saw no difference are left out.

    Raises:
        DataError: It is no such table, or none of its pairs is labelled.
    """
    rows = []
    for pair in read_pairs(path):
        if not pair.preference or pair.a1 == pair.a2:
            continue
        chosen, rejected = (pair.a1, pair.a2) if pair.preference == "a1" else (pair.a2, pair.a1)
        name = f"{path.stem}-{pair.row}"
        clip = f"mer2026/{pair.name}"
        rows.append(pair_row(name, clip, Modality.AUDIOVISUAL, QUESTION, chosen, rejected, task=TASK, source=path.name))
    if not rows:
        raise DataError(f"{path} has no preferences; track3_candidate.csv is for `avem bench mer-prefer`.")
    return rows


FORMAT = Format("emoprefer", read)
