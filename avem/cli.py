"""The `avem` command: parse, call, show. Errors a user can mend end in one sentence and their exit status."""

from __future__ import annotations

import logging
import sys

import typer

from avem.errors import AvemError

app = typer.Typer(name="avem", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def main() -> None:
    """Run the command line; every `AvemError` becomes one sentence on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except AvemError as error:
        typer.echo(f"avem: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        typer.echo("avem: stopped; the same command goes on from here.", err=True)
        sys.exit(130)
