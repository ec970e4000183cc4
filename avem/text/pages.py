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

    They have the filters `counted`, as of `avem.text.lists`, and `sentence`.

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
    environment.filters["sentence"] = sentence
    return environment


def page_style() -> str:
    """The text of `STYLE`, for pages that are not rendered by a template."""
    return (files("avem.text") / "templates" / STYLE).read_text(encoding="utf-8")


def sentence(text: str) -> Markup:
    """A terminal's sentence as a page has it: from a capital on, and what stands between backticks as code.

    Example:
        >>> sentence("run `avem x <y>`, then stop.")
        Markup('Run <code>avem x &lt;y&gt;</code>, then stop.')
    """
    pieces = [page_text(mask(piece)) for piece in (text[:1].upper() + text[1:]).split("`")]
    if len(pieces) % 2 == 0:  # a single backtick is itself
        pieces[-2:] = ["`".join(pieces[-2:])]
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(piece) if number % 2 else piece for number, piece in enumerate(pieces))


def shown(value: Any) -> Any:
    """A value as a page shows it: text loses what HTML forbids, such as NUL, and the secrets in it."""
    if isinstance(value, Markup):
        return Markup(page_text(mask(str(value))))
    return page_text(mask(value)) if isinstance(value, str) else value
