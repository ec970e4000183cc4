"""Labels of one modality each, for stores whose clips may show one emotion in the face and another in the voice."""

from __future__ import annotations

import csv
from pathlib import Path

from avem.cache.negatives.population import MODALITIES, Labels
from avem.errors import DataError, MissingFileError


def read_modality_labels(path: Path) -> Labels:
    """Read a CSV file with the column `clip_id` and some of `video`, `audio` and `audiovisual`.

    Raises:
        MissingFileError: There is no such file.
        DataError: A column is missing.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path} with labels.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        named = [name for name in MODALITIES if name in (table.fieldnames or ())]
        if "clip_id" not in (table.fieldnames or ()) or not named:
            raise DataError(f"{path} needs a column clip_id and at least one of {', '.join(MODALITIES)}.")
        rows = list(table)
    return {name: {row["clip_id"]: (row[name] or "").strip() for row in rows} for name in named}
