"""What commands show: every line and table passes through here, without secrets and without codes for the terminal."""

from __future__ import annotations

import logging
import shutil
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any

import typer

from avem.guards.secrets import mask
from avem.text.escaping import one_line, terminal_block
from avem.text.tables import Table


def show(line: object, *, err: bool = False) -> None:
    """Print one line; what would end it or steer the terminal is shown as its code.

    Args:
        line: Anything with a text.
        err: Whether it goes to standard error.
    """
    typer.echo(one_line(line), err=err)


def show_block(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print a text of several lines, such as a table as CSV.

    Args:
        text: The text; its line ends stay.
        nl: Whether a line end is added.
        err: Whether it goes to standard error.
    """
    typer.echo(terminal_block(mask(text)), nl=nl, err=err)


def show_table(table: Table) -> None:
    """Print a table: as wide as the terminal allows, and in a pipe or a file one line for each row."""
    typer.echo(table.text(table_width()))


def table_width() -> int | None:
    """Cells in a line of the terminal; None where standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class PlainFormatter(logging.Formatter):
    """Formats records without secrets and without codes for the terminal; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record's line."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The traceback."""
        return terminal_block(mask(super().formatException(ei)))


def log_to_terminal() -> None:
    """Show warnings, avem's own progress and unforeseen errors on standard error, without secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("avem").setLevel(logging.INFO)
    sys.excepthook = _show_exception
    warnings.showwarning = _show_warning


def _show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    show_block("".join(traceback.format_exception(kind, error, trace)), nl=False, err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    show_block(warnings.formatwarning(message, category, filename, lineno, line), nl=False, err=True)
