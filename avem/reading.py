"""Reading text that somebody else wrote: every way in which a file can be wrong is one error that names it.

Byte order marks are accepted. Text that is not UTF-8, JSON that is nested too deeply, whole numbers of too many digits
and lone surrogates (half of a character, which can't be written or tokenised) are refused.
"""

from __future__ import annotations

import json
import math
import stat
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from avem.errors import DataError, MissingFileError

_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Folders, pipes and devices are refused before they are opened.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not a regular file, or it can't be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a regular file; name a file.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} can't be read ({reason}).") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; raises as `read_bytes`, or `DataError`."""
    return decode(read_bytes(path), str(path))


def decode(data: bytes, where: str) -> str:
    """Bytes as UTF-8 text, without a byte order mark.

    Raises:
        DataError: They are not UTF-8; the message gives the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{where} is not UTF-8 text (line {line}); save it as UTF-8.") from error


def parse_json(text: str | bytes, where: str, expect: type | None = None, *, finite: bool = False) -> Any:
    """Parse JSON.

    Args:
        text: The JSON.
        where: The file, and the line in it, for the message.
        expect: `dict` or `list` where only that will do.
        finite: Refuse NaN and infinite numbers.

    Raises:
        DataError: It is not JSON, is of another type, is nested too deeply, or holds a number or a text that can't be
            used.

    Example:
        >>> parse_json('{"id": 3}', "rows.jsonl line 1", dict)
        {'id': 3}
    """
    text = decode(text, where) if isinstance(text, bytes) else text
    try:
        value = json.loads(text, parse_constant=_refuse if finite else None, parse_float=_finite if finite else None)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error}).") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds a lone surrogate, which is not text; correct the \\ud... in it.") from error
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        raise DataError(f"{where} holds a number that can't be used ({error}).") from error
    if expect is not None and not isinstance(value, expect):
        raise DataError(f"{where} should hold {_NAMES.get(expect, expect.__name__)}.")
    return value


def read_json(path: Path, expect: type | None = None, *, finite: bool = False) -> Any:
    """Parse a JSON file; see `parse_json` and `read_bytes`."""
    return parse_json(read_bytes(path), str(path), expect, finite=finite)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        DataError: It is not TOML, is nested too deeply, or holds a number or a date that can't be used.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where} is not TOML: {error}.") from error
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        raise DataError(f"{where} holds a value that can't be used ({error}).") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; see `parse_toml` and `read_bytes`."""
    return parse_toml(read_text(path), str(path))


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value
