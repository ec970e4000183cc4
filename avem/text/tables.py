"""Tables of plain text, laid out for any width: cells wrap, and columns that do not fit go into a table below.

Nothing is ever cut. So two rows, or two headings, look alike only where they are alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from avem.text.escaping import one_line

GAP = 2
"""Blanks between two columns."""
LONGEST_WORD = 24
"""Cells wide that a word may be before a narrow table breaks it, at a sign such as `/` or `_` if there is one."""
_WORD = re.compile(r"\[[^\]\[]{0,22}\]\S*|\([^()]{0,16}\)\S*|\S+")
"""A word; what is in brackets, such as an interval, is one."""
_PIECE = re.compile(r"[^/_\-.@]*[/_\-.@]+|[^/_\-.@]+")
_NUMBER = re.compile(r"[-+\N{MINUS SIGN}~]?\d[\d.,]*( ?%|e[-+]?\d+)?( .*)?|-|")


@dataclass(frozen=True, slots=True)
class Table:
    """A table to print. Cells are any text; what steers a terminal, and secrets, never get through."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Cells, as many in each row as the header has."""
    title: str = ""
    note: str = ""
    """Sentences below the table."""

    @classmethod
    def of(cls, header: Iterable[object], rows: Iterable[Iterable[object]], title: str = "", note: str = "") -> Table:
        """A table of anything that has a text.

        Example:
            >>> print(Table.of(["task", "n"], [["audio", 12], ["video", 7]]).text())
            task    n
            -----  --
            audio  12
            video   7
        """
        return cls(
            tuple(map(one_line, header)),
            tuple(tuple(map(one_line, row)) for row in rows),
            one_line(title),
            one_line(note),
        )

    def text(self, width: int | None = None) -> str:
        """The table as lines.

        Args:
            width: Cells that a line may have; None for as many as it takes, as a pipe or a file wants it.

        Returns:
            The lines, without a line end after the last. If a row has too many columns for the width, the columns
            that are left follow in a second table, beside those that tell its rows apart.
        """
        columns = [_Column(cells) for cells in zip(self.header, *self.rows, strict=True)]
        parts = [_paragraph(self.title, width)] if self.title else []
        parts += [_block(group, width) for group in _groups(columns, width)]
        parts += [_paragraph(self.note, width)] if self.note else []
        if self.title and columns:
            parts[:2] = ["\n".join(parts[:2])]
        return "\n\n".join(parts)


class _Column:
    """A column's cells, its heading first, and how wide it is."""

    def __init__(self, cells: Sequence[str]) -> None:
        self.cells = cells
        self.width = max(map(cell_len, cells))
        self.right = any(cells[1:]) and all(_NUMBER.fullmatch(cell) for cell in cells[1:])
        """Whether it holds numbers, which end in one line."""

    def narrowest(self, limit: int) -> int:
        """The width that no ordinary word needs to be broken for."""
        return max(1, *(min(cell_len(word), limit) for cell in self.cells for word in _WORD.findall(cell)), 1)

    def lines(self, row: int, width: int) -> list[str]:
        return wrapped(self.cells[row], width)

    def fitted(self, width: int) -> int:
        """What the column needs of a width once its cells are wrapped in it."""
        return max(cell_len(line) for row in range(len(self.cells)) for line in self.lines(row, width))


def wrapped(cell: str, width: int) -> list[str]:
    """A cell's lines, each at most `width` wide; together they hold every word.

    Example:
        >>> wrapped("85.3 [80.1, 90.2]", 12)
        ['85.3', '[80.1, 90.2]']
    """
    if cell_len(cell) <= width:
        return [cell]
    lines = [""]
    for word in _WORD.findall(cell):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
            continue
        pieces = [word] if cell_len(word) <= width else _broken(word, width)
        lines += pieces
    return lines[1:] or [""]


def _broken(word: str, width: int) -> list[str]:
    """A long word in lines: broken after a sign if one is near, else anywhere."""
    lines = [""]
    for piece in _PIECE.findall(word):
        if lines[-1] and cell_len(lines[-1]) + cell_len(piece) > width:
            lines.append("")
        for sign in piece:
            if lines[-1] and cell_len(lines[-1]) + cell_len(sign) > width:
                lines.append("")
            lines[-1] += sign
    return lines


def _paragraph(text: str, width: int | None) -> str:
    return text if width is None else "\n".join(wrapped(text, width))


def _groups(columns: list[_Column], width: int | None) -> list[list[_Column]]:
    """Columns that stand side by side; every group begins with those that tell its rows apart."""
    if width is None or not columns:
        return [columns] if columns else []
    limit = _limit(width)
    if _room(columns, width, limit) >= 0:
        return [columns]
    keys = _keys(columns)
    groups = [list(keys)]
    for column in columns:
        if column in keys:
            continue
        if _room([*groups[-1], column], width, limit) < 0 and len(groups[-1]) > len(keys):
            groups.append(list(keys))
        groups[-1].append(column)
    return groups


def _keys(columns: Sequence[_Column]) -> list[_Column]:
    """The first columns that tell all rows apart, two at most; else numbers for the rows."""
    for count in (1, 2):
        keys = columns[:count]
        rows = list(zip(*(key.cells[1:] for key in keys), strict=True))
        if len(set(rows)) == len(rows):
            return list(keys)
    return [_Column(["row", *map(str, range(1, len(columns[0].cells)))])]


def _limit(width: int) -> int:
    return min(LONGEST_WORD, max((width - 2 * GAP) // 3, 2))


def _room(columns: Sequence[_Column], width: int, limit: int) -> int:
    """Cells that are left of a line where all columns are as narrow as they can be."""
    return width - sum(column.narrowest(limit) for column in columns) - GAP * (len(columns) - 1)


def _widths(columns: Sequence[_Column], width: int | None) -> list[int]:
    """Width of each column: their own if all fit, else the widest are narrowed until they do."""
    widths = [column.width for column in columns]
    if width is None:
        return widths
    least = [column.narrowest(_limit(width)) for column in columns]
    while sum(widths) + GAP * (len(widths) - 1) > width:
        wide = [number for number in range(len(widths)) if widths[number] > least[number]]
        if not wide:
            break
        widest = max(wide, key=lambda number: widths[number])
        widths[widest] = max(columns[widest].fitted(widths[widest] - 1), least[widest])
    return widths


def _block(columns: Sequence[_Column], width: int | None) -> str:
    widths = _widths(columns, width)
    lines: list[str] = []
    rows = range(len(columns[0].cells))
    for row in rows:
        cells = [column.lines(row, size) for column, size in zip(columns, widths, strict=True)]
        tall = max(map(len, cells))
        for each in cells:  # a heading stands on its column, a cell begins at the top
            blank = [""] * (tall - len(each))
            each[:] = [*blank, *each] if row == 0 else [*each, *blank]
        lines += [_line(parts, columns, widths) for parts in zip(*cells, strict=True)]
        if row == 0:
            lines.append((" " * GAP).join("-" * size for size in widths))
    return "\n".join(lines)


def _line(parts: Sequence[str], columns: Sequence[_Column], widths: Sequence[int]) -> str:
    placed = []
    for part, column, size in zip(parts, columns, widths, strict=True):
        blank = " " * (size - cell_len(part))
        placed.append(blank + part if column.right else part + blank)
    return (" " * GAP).join(placed).rstrip()
