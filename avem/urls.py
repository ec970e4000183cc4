"""Paths that may be URLs."""

from __future__ import annotations

import re
from pathlib import Path


def as_url(path: str | Path) -> str:
    """A path or URL as text; a URL that went through `Path`, which takes `//` for `/`, is one again.

    Example:
        >>> from pathlib import Path
        >>> as_url(Path("s3://bucket/cache"))
        's3://bucket/cache'
    """
    text = re.sub(r"^([a-z][a-z0-9+]+):/(?!/)", r"\1://", str(path))
    return re.sub(r"^(file|local)://(?!/)", r"\1:///", text) if isinstance(path, Path) else text


def is_url(path: str | Path) -> bool:
    """Whether a path names a store that is not on this machine.

    Example:
        >>> is_url("s3://bucket/cache"), is_url("./cache"), is_url("file:///data/cache"), is_url("C:/cache")
        (True, False, False, False)
    """
    protocol, found, _ = as_url(path).partition("://")
    return bool(found) and protocol not in ("file", "local")
