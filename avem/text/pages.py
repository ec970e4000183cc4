"""How HTML pages are rendered: everything is escaped, secrets are masked, and a missing value is an error."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from avem.guards.secrets import mask
from avem.text.escaping import page_text
from avem.text.lists import counted

STYLE = "page.css"
"""The style that all pages share: colours for light and dark, text, cards and tables."""


def make_environment(package: str) -> Environment:
    """Templates of a package's folder `templates` and those that all pages share, such as `page.css`.

    They have the filter `counted`, as of `avem.text.lists`.

    Args:
        package: The package, such as `avem.evaluate`.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("avem.text")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters["counted"] = counted
    return environment


def page_style() -> str:
    """The text of `STYLE`, for pages that are not rendered by a template."""
    return (files("avem.text") / "templates" / STYLE).read_text(encoding="utf-8")


def shown(value: Any) -> Any:
    """A value as a page shows it: text loses what HTML forbids, such as NUL, and the secrets in it."""
    if isinstance(value, Markup):
        return Markup(page_text(mask(str(value))))
    return page_text(mask(value)) if isinstance(value, str) else value
