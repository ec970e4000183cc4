r"""Names from outside and for readers: file names that are not UTF-8, and names that would steer a terminal.

Python gives the bytes of a file name that are not UTF-8 as lone surrogates, which neither Arrow nor a UTF-8 file can
hold. In stores and files they are written `\xff`. A path in that form is found again by `named_path`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")


def storable(text: str) -> str:
    r"""Text as UTF-8 can hold it; ordinary text is returned as it is.

    Example:
        >>> print(storable("caf\udce9"))
        caf\xe9
    """
    if text.isascii():
        return text
    return _SURROGATE.sub(_code, text)


def named_path(root: Path, name: str) -> Path:
    """The file that a store's path names below a root, also where its real name is not UTF-8.

    Args:
        root: Folder that the path is relative to.
        name: The path, as `storable` wrote it.
    """
    path = root / name
    if "\\x" not in name or path.exists():
        return path
    raw = root / _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), name)
    return raw if raw.exists() else path


def shown_path(path: Path) -> str:
    """A path as one would type it from the current folder, absolute where it is not below that.

    Example:
        >>> shown_path(Path("runs/../cache").absolute())
        'cache'
    """
    relative = os.path.relpath(path.resolve())
    return relative if not relative.startswith("..") else str(path)


def _code(found: re.Match[str]) -> str:
    sign = found.group()
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    return named.get(sign) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
