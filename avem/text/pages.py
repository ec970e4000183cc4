"""How HTML pages are rendered: everything is escaped, secrets are masked, and a missing value is an error."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from avem.guards.secrets import mask
from avem.text.escaping import page_text


def make_environment(package: str) -> Environment:
    """Templates of a package's folder `templates`.

    Args:
        package: The package, such as `avem.evaluate`.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )


def shown(value: Any) -> Any:
    """A value as a page shows it: text loses what HTML forbids, such as NUL, and the secrets in it."""
    if isinstance(value, Markup):
        return Markup(page_text(mask(str(value))))
    return page_text(mask(value)) if isinstance(value, str) else value
