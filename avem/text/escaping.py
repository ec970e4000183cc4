"""Text that others wrote, made fit for where it goes: terminals, pages, scripts, tables and file names.

One function for each boundary. Each takes any text, hostile ones included, and changes ordinary text in nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from html import escape
from typing import Any

from avem.guards.secrets import mask

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Control codes, marks that turn the direction of writing, line separators, and halves of characters."""
_CONTROL_LINES = re.compile(CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_NOT_IN_PAGES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}]")
_NOT_IN_CSV = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BEFORE_CODE = re.compile(rf"(\\+)(?=u[0-9a-f]{{4}}|{_NOT_IN_CSV.pattern})")
"""Backslashes that would be taken for a part of the code that follows."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(rf"[/\\<>\"|?*]|{CONTROL.pattern}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

LONGEST_NAME = 120
"""Of a file made from data, in characters; longer names end in a digest."""


def terminal_text(text: str) -> str:
    r"""One line for a terminal: what would move the cursor, colour or turn the text is shown as its code.

    Example:
        >>> print(terminal_text("bold \x1b[1m, new\nline"))
        bold \x1b[1m, new\nline
    """
    return CONTROL.sub(_code, text)


def one_line(text: object) -> str:
    """Anything as a terminal or a log may show it in one line: as `terminal_text`, and without secrets."""
    return terminal_text(mask(str(text)))


def terminal_block(text: str) -> str:
    """Several lines for a terminal: as `terminal_text`, but line ends and tabs stay."""
    return _CONTROL_LINES.sub(_code, text)


def page_text(text: str) -> str:
    """Text for HTML, SVG or XML without characters that these forbid, such as NUL; markup is not escaped."""
    return _NOT_IN_PAGES.sub("\N{REPLACEMENT CHARACTER}", text)


def xml_text(text: str) -> str:
    """Text for an element or an attribute of SVG, XML or HTML.

    Example:
        >>> xml_text('a < "b"')
        'a &lt; &quot;b&quot;'
    """
    return escape(page_text(text))


def script_json(value: Any) -> str:
    r"""A JSON value for a `<script>` element: nothing in it can end the element or begin a comment.

    Example:
        >>> print(script_json("</script><!--"))
        "\u003c/script\u003e\u003c!--"
    """
    text = json.dumps(value, ensure_ascii=False)
    text = re.sub("[<>&\u2028\u2029\ud800-\udfff\x7f-\x9f]", lambda found: f"\\u{ord(found.group()):04x}", text)
    return text


def csv_cell(value: Any) -> Any:
    r"""A value for a CSV file that may be opened with a spreadsheet program; `csv_value` gives it back.

    Text that begins like a formula gets an apostrophe in front, and control codes are written as `\u001b`. Numbers stay
    as they are.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-1.5"), csv_cell(0.5)
        ("'=1+1", '-1.5', 0.5)
    """
    if not isinstance(value, str):
        return value
    text = _NOT_IN_CSV.sub(_u_code, _BEFORE_CODE.sub(r"\1\1", value))
    formula = _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{text}" if formula else text


def csv_value(text: str) -> str:
    """The text of a cell that `csv_cell` wrote."""
    text = re.sub(r"(\\+)u([0-9a-f]{4})", _from_u_code, text)
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def markdown_cell(text: str) -> str:
    r"""Text for a cell of a Markdown table: on one line, without a column mark and without HTML.

    Example:
        >>> markdown_cell("a|b <i>")
        'a\\|b &lt;i>'
    """
    line = terminal_text(" ".join(text.splitlines())).replace("<", "&lt;")
    return re.sub(r"(\\?)\|", lambda found: "\\&#124;" if found.group(1) else "\\|", line)


def latex_cell(text: str) -> str:
    """Text for LaTeX before its signs are escaped: on one line, control codes shown."""
    return terminal_text(" ".join(text.splitlines()))


def file_name(text: str) -> str:
    """A file or folder name from data: it names no other folder and no hidden file, and ordinary names stay.

    Example:
        >>> file_name("../../etc/passwd")
        '_.._.._etc_passwd'
    """
    name = _NOT_IN_NAMES.sub("_", text).rstrip(". ")
    if name.startswith(".") or _RESERVED.fullmatch(name) or not name:
        name = f"_{name}"
    if len(name.encode()) > LONGEST_NAME:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    return name


def _code(found: re.Match[str]) -> str:
    sign = found.group()
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return named.get(sign) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _u_code(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def _from_u_code(found: re.Match[str]) -> str:
    marks, code = found.groups()
    half = "\\" * (len(marks) // 2)
    return f"{half}{chr(int(code, 16))}" if len(marks) % 2 else f"{half}u{code}"
