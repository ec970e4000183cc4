"""Labels of one modality each, for stores whose clips may show one emotion in the face and another in the voice."""

from __future__ import annotations

from pathlib import Path

from avem.cache.negatives.population import MODALITIES, Labels
from avem.errors import DataError, MissingFileError
from avem.text.csv_tables import read_rows


def read_modality_labels(path: Path) -> Labels:
    """Read a CSV file with the column `clip_id` and some of `video`, `audio` and `audiovisual`.

    Any usual delimiter, encoding and case of the headings will do; see `avem.text.csv_tables`.

    Raises:
        MissingFileError: There is no such file.
        DataError: A column is missing, or it is not valid CSV.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path} with labels.")
    header, rows = read_rows(path, ("clip_id", *MODALITIES))
    named = [name for name in MODALITIES if name in header]
    if "clip_id" not in header or not named:
        raise DataError(f"{path} needs a column clip_id and at least one of {', '.join(MODALITIES)}.")
    return {name: {row["clip_id"].strip(): row[name].strip() for _, row in rows} for name in named}
