"""Reading text that somebody else wrote: every way in which a file can be wrong is one error that names it.

Byte order marks are accepted. Text that is not UTF-8, JSON that is nested too deeply, whole numbers of too many digits
and lone surrogates (half of a character, which can't be written or tokenised) are refused.
"""

from __future__ import annotations

import errno
import json
import math
import stat
import tomllib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from avem.errors import DataError, MissingFileError

_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


def irregular(mode: int) -> str:
    """What a file's mode says that it is other than a file, as the end of a sentence; empty for a file.

    Reading a FIFO or a device may never end, so check a path that a user gave here before reading it.

    Example:
        >>> irregular(0o010644)
        'is a FIFO, not a file'
    """
    kinds = {
        stat.S_IFIFO: "is a FIFO, not a file",
        stat.S_IFSOCK: "is a socket, not a file",
        stat.S_IFCHR: "is a device, not a file",
        stat.S_IFBLK: "is a device, not a file",
        stat.S_IFDIR: "is a folder, not a file",
    }
    return "" if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "is not a file")


def advise(error: Exception, advice: str) -> str:
    """An error's sentence with what to do about it.

    Example:
        >>> advise(DataError("a.json is not JSON."), "fetch the checkpoint again")
        'a.json is not JSON; fetch the checkpoint again.'
    """
    return f"{str(error).removesuffix('.')}; {advice}."


def require_regular(path: Path) -> None:
    """Refuse what is not a regular file, before it is opened.

    Raises:
        OSError: There is nothing there, or it is a folder, a pipe, a socket or a device.
    """
    if problem := irregular(path.stat().st_mode):
        raise OSError(errno.EINVAL, problem, str(path))


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, for callers that explain an `OSError` themselves.

    Raises:
        OSError: It can't be opened, or it is not a regular file; such a file is not opened.
    """
    require_regular(path)
    return path.open("rb")


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: As by `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Folders, pipes and devices are refused before they are opened.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not a regular file, or it can't be read.
    """
    try:
        if problem := irregular(path.stat().st_mode):
            raise DataError(f"{path} {problem}; name a file.")
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


def as_utf8(data: bytes, where: str) -> bytes:
    """Text that begins with UTF-16's byte order mark as UTF-8; any other as it is.

    Raises:
        DataError: It begins so and is not UTF-16.
    """
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data
    try:
        return data.decode("utf-16").encode()
    except UnicodeError as error:
        raise DataError(f"{where} begins as UTF-16 text and is not ({error.args[-1]}); save it as UTF-8.") from error


def parse_json(
    text: str | bytes,
    where: str,
    expect: type | None = None,
    *,
    finite: bool = False,
    surrogates: bool = False,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Parse JSON.

    Args:
        text: The JSON.
        where: The file, and the line in it, for the message.
        expect: `dict` or `list` where only that will do.
        finite: Refuse NaN and infinite numbers.
        surrogates: Accept lone surrogates. avem's own records have them where a file's name is not UTF-8.
        pairs: Makes an object of its keys and values, as `object_pairs_hook` of `json.loads`.

    Raises:
        DataError: It is not JSON, is of another type, is nested too deeply, or holds a number or a text that can't be
            used.

    Example:
        >>> parse_json('{"id": 3}', "rows.jsonl line 1", dict)
        {'id': 3}
    """
    text = decode(text, where) if isinstance(text, bytes) else text
    try:
        value = json.loads(
            text,
            parse_constant=_refuse if finite else None,
            parse_float=_finite if finite else None,
            object_pairs_hook=pairs,
        )
        if not surrogates and "\\ud" in text.lower():
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


def read_json(path: Path, expect: type | None = None, *, finite: bool = False, surrogates: bool = False) -> Any:
    """Parse a JSON file, in UTF-8 or with the byte order mark of UTF-16; see `parse_json` and `read_bytes`."""
    return parse_json(as_utf8(read_bytes(path), str(path)), str(path), expect, finite=finite, surrogates=surrogates)


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
