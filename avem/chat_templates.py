"""Chat templates that write today's date: prompts of every day are made the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any

DATE = datetime(2024, 7, 26)
"""What templates take for today: the date that Llama 3.2's own template writes where it is given none."""
CODES = "aAbBcdDeFGHIjklmMnpPsSTuUVwWxXyYZ"
"""Codes of `strftime` that are filled in, each with and without the dash that leaves out a leading zero."""


def frozen_date(template: Any) -> dict[str, str]:
    """Arguments for `apply_chat_template` under which a template writes `DATE` instead of today's date.

    A model would otherwise be trained, scored and evaluated on another prompt each day.

    Args:
        template: The chat template, or several by name, of which `default` is used.

    Returns:
        `chat_template` where the template calls `strftime_now`, else nothing.
    """
    text = template.get("default") if isinstance(template, dict) else template
    if not isinstance(text, str) or "strftime_now" not in text:
        return {}
    return {"chat_template": f"{_macro()}\n{text}"}  # templates are rendered without the first newline after a tag


def _macro() -> str:
    """Jinja that takes the name of transformers' function: what a template is given may hold no function."""
    filled = [(code, DATE.strftime(code)) for letter in CODES for code in (f"%-{letter}", f"%{letter}")]
    filters = "".join(f" | replace({code!r}, {text!r})" for code, text in filled)
    return f"{{%- macro strftime_now(format) %}}{{{{ format{filters} }}}}{{%- endmacro %}}"
