"""VLMEvalKit: a dataset class with its launcher, and its tables of predictions read back."""

from __future__ import annotations

from pathlib import Path

from avem.errors import DataError
from avem.evaluate.harness.base import Harness
from avem.extract.datasets.tables import read_grid
from avem.text.csv_tables import numbered_rows, read_table_text

SUFFIXES = (".xlsx", ".csv", ".tsv")
ID, REPLY = "emorealm_id", "prediction"
MARK = "id="
"""What stands before an id in the table, so that no reader takes it for a number."""
FAILED = "Failed to obtain answer via API."
"""What VLMEvalKit writes where a model gave no answer."""


def recognises(path: Path) -> bool:
    """Whether a file is a table by its suffix."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(path: Path) -> list[tuple[str, str]]:
    """Question ids and predictions of a table: `MODEL_EmoReAlM_audiovisual.xlsx`, or any table with `id`.

    Predictions that VLMEvalKit says it did not get are left out.

    Raises:
        DataError: It is no table, or has no `prediction` or no ids.
    """
    grid = _grid(path)
    header = [name.strip().lower() for name in grid[0]] if grid else []
    name = next((name for name in (ID, "id") if name in header), None)
    if name is None or REPLY not in header:
        shown = ", ".join(header) or "none"
        raise DataError(
            f"{path} should have the columns {ID} (or id) and {REPLY}, and has {shown}; give the table that "
            "VLMEvalKit wrote for EmoReAlM."
        )
    ids, replies = header.index(name), header.index(REPLY)
    rows = [row for row in grid[1:] if len(row) > max(ids, replies) and row[ids]]
    return [(row[ids].removeprefix(MARK), row[replies]) for row in rows if row[replies] not in ("", FAILED)]


def _grid(path: Path) -> list[list[str]]:
    if path.suffix.lower() == ".xlsx":
        return read_grid(path)
    header, rows = numbered_rows(read_table_text(path), str(path), (ID, "id", REPLY))
    return [header, *(cells for _, cells in rows)]


HARNESS = Harness(
    "vlmevalkit",
    "emorealm_vlmevalkit.py",
    "cd VLMEvalKit && python {folder}/emorealm_vlmevalkit.py --data EmoReAlM_audiovisual --model ...",
    "table (MODEL_EmoReAlM_audiovisual.xlsx)",
    recognises,
    read,
)
