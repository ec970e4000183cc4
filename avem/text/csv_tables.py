"""CSV as people have it: any usual delimiter, encoding and spelling of the header give the same rows."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from avem.errors import DataError
from avem.reading import read_bytes

Row = dict[str, str]
"""A table's row: column name to text."""
DELIMITERS = (",", ";", "\t", "|")
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""A first line that spreadsheet programs write and understand."""


def table_text(data: bytes) -> str:
    """The text of a table: UTF-8 or UTF-16, with or without a byte order mark, else Windows' cp1252.

    Example:
        >>> table_text("path".encode("utf-16")), table_text("caf\N{LATIN SMALL LETTER E WITH ACUTE}".encode("cp1252"))
        ('path', 'café')
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    even, odd = data[0:200:2].count(0), data[1:200:2].count(0)
    if encoding is None and max(even, odd) > len(data[:200]) // 16:
        encoding = "utf-16-be" if even > odd else "utf-16-le"  # Latin letters have a zero byte before or after them
    for name in (encoding, "utf-8"):
        if name is not None:
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                continue
    return data.decode("cp1252", errors="replace")


def read_table_text(path: Path) -> str:
    """The text of a table's file; raises as `avem.reading.read_bytes`."""
    return table_text(read_bytes(path))


def read_rows(
    path: Path, known: Sequence[str], aliases: Mapping[str, str] | None = None
) -> tuple[list[str], list[tuple[int, Row]]]:
    """The header of a table's file, and each row by column with its line; arguments as of `numbered_rows`.

    Cells that a row leaves out at its end are empty.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not valid CSV, or a row has more cells than the header.
    """
    header, rows = numbered_rows(read_table_text(path), str(path), known, aliases)
    return header, [(line, _by_column(header, cells, f"{path} line {line}")) for line, cells in rows]


def _by_column(header: Sequence[str], cells: Sequence[str], where: str) -> Row:
    if any(map(str.strip, cells[len(header) :])):
        raise DataError(
            f"{where} has {len(cells)} cells and its header has {len(header)}; quote a cell that contains the "
            "delimiter."
        )
    return dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=False))


def numbered_rows(
    text: str, where: str, known: Sequence[str], aliases: Mapping[str, str] | None = None
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the rows of a table, blank lines left out; headings that mean a known column have its name.

    Args and errors are those of `raw_rows`.
    """
    header, rows = raw_rows(text, where, known, aliases)
    return named(header, known, aliases or {}), rows


def raw_rows(
    text: str, where: str, known: Sequence[str], aliases: Mapping[str, str] | None = None
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header as it is written and the rows of a table, blank lines left out.

    Args:
        text: The table, as `table_text` decodes it.
        where: The file, for messages.
        known: Names of columns to look for, in lower case. They decide which delimiter it is. A heading that is one of
            them but for case, blanks and hyphens means it (`named`).
        aliases: Other headings that mean a known column which the table does not have.

    Returns:
        The header, and each row with the number of the line that it ends in.

    Raises:
        DataError: It is not valid CSV.
    """
    delimiter = None
    if given := _SEPARATOR.match(text):
        delimiter, text = given.group(1), text[given.end() :]
    delimiter = delimiter or _delimiter(text, known, aliases or {})
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    first = 2 if given else 1
    try:
        rows = [(reader.line_num + first - 1, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise DataError(f"{where} line {reader.line_num} is not valid CSV ({error}); correct it.") from error
    if not rows:
        return [], []
    return rows[0][1], rows[1:]


def _delimiter(text: str, known: Sequence[str], aliases: Mapping[str, str]) -> str:
    """What splits the header into the most known columns; a comma where all do equally."""
    head = next((line for line in text.splitlines() if line.strip()), "")

    def found(delimiter: str) -> int:
        try:
            cells = next(csv.reader([head], delimiter=delimiter), [])
        except csv.Error:
            return 0
        return len(set(named(cells, known, aliases)) & set(known))

    return max(DELIMITERS, key=found)


def named(header: Sequence[str], known: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    """Headings, those that mean a known column under its name; of several, the one that comes first in `aliases`."""
    names = [cell.strip().lstrip("\ufeff") for cell in header]
    spelt = [re.sub(r"[\s\-]+", "_", unicodedata.normalize("NFC", name).lower()) for name in names]
    for heading, meant in [*zip(known, known, strict=True), *aliases.items()]:
        if heading in spelt and meant not in names:
            names[spelt.index(heading)] = meant
    return names
