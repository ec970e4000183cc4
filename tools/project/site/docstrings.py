"""Docstrings in Google's style, as Markdown."""

from __future__ import annotations

import inspect
import re

SECTIONS = {"Args": "Arguments", "Raises": "Errors"}
"""Headings of Google's docstring style that pages call otherwise; the others keep their names."""
_HEADING = re.compile(r"^(Args|Returns|Raises|Yields|Example|Examples|Attributes|Note):\s*$")
_ENTRY = re.compile(r"^(\*{0,2}\w+(?: \([^)]*\))?): (.*)$")


def render_docstring(text: str) -> str:
    r"""A docstring in Google's style as Markdown: its sections become bold headings with lists.

    Example:
        >>> print(render_docstring("Add.\n\nArgs:\n    one: A number.\n\nReturns:\n    The sum."))
        Add.
        <BLANKLINE>
        **Arguments**
        <BLANKLINE>
        * `one`: A number.
        <BLANKLINE>
        **Returns**
        <BLANKLINE>
        The sum.
        <BLANKLINE>
    """
    lines, blocks, heading = inspect.cleandoc(text).splitlines(), [], ""
    current: list[str] = []
    for line in [*lines, "End:"]:
        found = _HEADING.match(line) or (line == "End:" and re.match("(End)", line))
        if not found:
            current.append(line)
            continue
        blocks.append(_section(heading, current))
        heading, current = found.group(1), []
    return "\n\n".join(block for block in blocks if block) + "\n" if text else ""


def _section(heading: str, lines: list[str]) -> str:
    body = inspect.cleandoc("\n".join(lines)).strip()
    if not heading or not body:
        return body
    if heading in ("Example", "Examples"):
        return f"**Example**\n\n```pycon\n{body}\n```"
    entries: list[str] = []
    for line in body.splitlines():
        entry = _ENTRY.match(line) if heading in ("Args", "Raises", "Attributes") else None
        if entry:
            entries.append(f"* `{entry.group(1)}`: {entry.group(2)}")
        elif entries and line.strip():
            entries[-1] += " " + line.strip()
        else:
            entries.append(line)
    return f"**{SECTIONS.get(heading, heading)}**\n\n" + "\n".join(entries)
