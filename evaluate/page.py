"""How pages are rendered: templates that escape everything and stop at a missing value."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from avem.evaluate.intervals import drawn, range_text
from avem.evaluate.predict.pooling import pooling_note
from avem.text.pages import make_environment


def page_environment() -> Environment:
    """Templates of this package with the filters `one`, `signed`, `range`, `drawn`, `short_path` and `pooling_note`."""
    environment = make_environment("avem.evaluate")
    environment.filters["one"] = lambda value: "" if value is None else f"{value:.1f}"
    environment.filters["signed"] = signed
    environment.filters["range"] = range_text
    environment.filters["drawn"] = drawn
    environment.filters["short_path"] = short_path
    environment.filters["pooling_note"] = pooling_note
    return environment


def short_path(path: str) -> str:
    """An absolute path's last three parts, so that a shared page does not reveal the folders of its author."""
    return str(Path(*Path(path).parts[-3:])) if Path(path).is_absolute() else path


def signed(value: float) -> str:
    """A difference with its sign, one decimal place."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
