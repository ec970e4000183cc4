"""Label tables as datasets ship them: CSV of unsure encoding, Excel sheets, and split lists."""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

from openpyxl import load_workbook

from avem.errors import DataError
from avem.reading import read_bytes
from avem.text.csv_tables import Row, numbered_rows, read_table_text

LARGEST_UNPACKED = 1 << 28
"""Bytes that an Excel file may unpack to; the largest table of a known dataset has some 10 MB."""


def read_csv(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[Row]:
    """Rows of a CSV file with a header line; see `avem.text.csv_tables`.

    Args:
        path: The file.
        columns: Columns that must be there; others are kept too.
        optional: Columns that may be there, spelt in any case.

    Raises:
        DataError: A column is missing, or a line is broken.
    """
    header, rows = numbered_rows(read_table_text(path), str(path), (*columns, *optional))
    need_columns(path, header, columns)
    return [{name: cell.strip() for name, cell in named_cells(header, cells)} for _, cells in rows]


def named_cells(header: list[str], cells: list[str]) -> list[tuple[str, str]]:
    """A row's cells with their headings: those left out are empty, those beyond the header do not count."""
    return list(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=False))


def read_xlsx(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of the first sheet of an Excel file with a header row; see `read_csv`."""
    grid = read_grid(path)
    header = grid[0] if grid else []
    need_columns(path, header, columns)
    return [dict(zip(header, cells, strict=False)) for cells in grid[1:] if any(cells)]


def read_grid(path: Path) -> list[list[str]]:
    """All cells of an Excel file's first sheet as text; whole numbers without a decimal point.

    Raises:
        DataError: It is not an Excel file.
    """
    data = read_bytes(path)
    try:
        _refuse_bomb(data, path)
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            return [[_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl lets every error of zipfile, expat and its own descriptors through
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} can't be read as an Excel file ({reason}); fetch it again.") from error


def _refuse_bomb(data: bytes, path: Path) -> None:
    """Refuse a small archive that unpacks to more than a table can be; zipfile reads no more than is declared."""
    with ZipFile(io.BytesIO(data)) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > LARGEST_UNPACKED:
        raise DataError(f"{path} unpacks to {size:,} bytes, which is no dataset's table; fetch it again.")


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def need_columns(path: Path, found: list[str], wanted: tuple[str, ...]) -> None:
    """Refuse a table without a column.

    Raises:
        DataError: Names what is missing.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(found) or 'none'}.")
