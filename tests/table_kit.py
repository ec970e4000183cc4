"""What every printed table must keep at every width: its lines fit, and every word of every cell is there."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

from rich.cells import cell_len

from avem.text.escaping import csv_value
from avem.text.tables import Table

WIDTHS = (80, 130)


def check_layouts(table: Table, widths: tuple[int, ...] = WIDTHS) -> None:
    """Fail where a layout of the table is too wide, loses a sign, or, without a terminal, breaks a row."""
    signs = _signs(" ".join([table.title, table.note, *table.header, *(cell for row in table.rows for cell in row)]))
    for width in widths:
        said = table.text(width)
        assert max(map(cell_len, said.splitlines()), default=0) <= width, said
        assert not signs - _signs(said), f"cut at {width}: {signs - _signs(said)}\n{said}"
    plain = table.text().split("\n")  # a last row may be empty
    assert len(plain) == (2 + len(table.rows) if table.header else 0) + bool(table.title) + 2 * bool(table.note)
    for row in table.rows:
        assert any(all(cell in line for cell in map(str.strip, row)) for line in plain), row


def _signs(text: str) -> Counter[str]:
    return Counter(re.sub(r"\s", "", text))


def read_csv(text: str) -> list[dict[str, str]]:
    """The rows of a table such as `csv_text` writes, every value as text, exactly."""
    header, *rows = [[csv_value(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))] or [[]]
    return [dict(zip(header, row, strict=True)) for row in rows]
