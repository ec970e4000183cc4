"""Label tables as datasets ship them: CSV of unsure encoding, Excel sheets, and split lists."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from avem.errors import DataError
from avem.files import irregular
from avem.reading import read_bytes

Row = dict[str, str]
"""A table's row: column name to text."""


def read_text(path: Path) -> str:
    """A text file in UTF-8 or, failing that, Windows' cp1252, in which some lists were saved."""
    refuse_irregular(path)
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def read_csv(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of a CSV file with a header line.

    Args:
        path: The file.
        columns: Columns that must be there; others are kept too.

    Raises:
        DataError: A column is missing, or a line is broken.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        found = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = found
        _need_columns(path, found, columns)
        return [{name: (value or "").strip() for name, value in row.items() if name is not None} for row in reader]
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is not valid CSV ({error}).") from error


def read_xlsx(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of the first sheet of an Excel file with a header row; see `read_csv`."""
    grid = read_grid(path)
    header = grid[0] if grid else []
    _need_columns(path, header, columns)
    return [dict(zip(header, cells, strict=False)) for cells in grid[1:] if any(cells)]


def read_grid(path: Path) -> list[list[str]]:
    """All cells of an Excel file's first sheet as text; whole numbers without a decimal point.

    Raises:
        DataError: It is not an Excel file.
    """
    refuse_irregular(path)
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as an Excel file ({error}); fetch it again.") from error
    try:
        return [[_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    finally:
        book.close()


def refuse_irregular(path: Path) -> None:
    """Refuse to read a table from a FIFO or a device, which may never end.

    Raises:
        DataError: It is not a regular file.
    """
    if problem := irregular(path.stat().st_mode):
        raise DataError(f"{path} {problem}; put the dataset's table there.")


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _need_columns(path: Path, found: list[str], wanted: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(found) or 'none'}.")
