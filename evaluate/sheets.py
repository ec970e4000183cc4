"""One table in every form that leaves the program: terminal, Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.text.csv_tables import Row, read_rows
from avem.text.escaping import csv_cell, csv_value, latex_cell, markdown_cell
from avem.text.tables import Table

FORMS = ("table", "json", "csv", "markdown", "latex")

LATEX_SIGNS = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\N{MINUS SIGN}": r"$-$",
    }
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table to show, and its numbers for programs."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Cells as shown, as many as the header has."""
    records: tuple[Mapping[str, Any], ...]
    """One flat object a row, at full precision; all with the same fields."""
    note: str = ""
    """A sentence below the table, such as why a column is empty."""

    @classmethod
    def of_records(cls, title: str, header: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Sheet:
        """A table whose cells are its records' values as they are."""
        return cls(title, tuple(header), tuple(tuple(map(str, one.values())) for one in records), tuple(records))

    def form(self, form: str) -> str:
        """The table as text: one of `FORMS` but `table`."""
        if form == "json":
            rows = [dict(record) for record in self.records]
            note = {"note": self.note} if self.note else {}
            return json.dumps({"title": self.title, "rows": rows, **note}, indent=1) + "\n"
        if form == "csv":
            return csv_text(self.records)
        writer = markdown_table if form == "markdown" else latex_table
        below = f"\n{self.note}\n" if self.note and form == "markdown" else ""
        return writer(self.header, self.rows) + below

    def table(self) -> Table:
        """The table for a terminal."""
        return Table.of(self.header, self.rows, self.title, self.note)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers on the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join("| " + " | ".join(map(markdown_cell, line)) + " |\n" for line in lines)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX `tabular` with the rules of the package booktabs."""
    lines = [" & ".join(latex_cell(cell).translate(LATEX_SIGNS) for cell in line) + r" \\" for line in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
    body = "\n".join(lines[1:])
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Objects with the same fields as CSV with a header; `read_sheet` gives their texts back (see `csv_cell`)."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    if records:
        writer.writerow(map(csv_cell, records[0]))
    writer.writerows([csv_cell(value) for value in record.values()] for record in records)
    return sink.getvalue()


def read_sheet(path: Path, known: Sequence[str], aliases: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a CSV file by column, as people have it or as `csv_text` writes it; see `avem.text.csv_tables`.

    Args:
        path: The file.
        known: Names of columns to look for; headings mean them in any case.
        aliases: Other headings that mean one of them.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not CSV, or a row has more cells than the header.
    """
    return [{name: csv_value(cell) for name, cell in row.items()} for _, row in read_rows(path, known, aliases)[1]]
