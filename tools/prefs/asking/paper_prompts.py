"""The paper's own prompt texts (Figs. 19 to 36), dropped into `--prompts` as they are printed.

Its placeholders are upper-case words in braces: `"{AUDIO CAPTION}"`. They become avem's `$audio_caption`.
"""

from __future__ import annotations

import re

PLACEHOLDERS = {
    "VIDEO ID": "code",
    "EMOTION": "emotion",
    "EMOTION LABEL": "emotion",
    "AUDIO CAPTION": "audio_caption",
    "VIDEO CAPTION": "video_caption",
    "QUESTION": "question",
    "CHOICES": "choices",
    "ANSWER": "answer",
}
"""The paper's placeholder, with spaces, to avem's; the paper also writes them with underscores."""

PLAIN = ("code", "emotion")
"""Placeholders that are filled in without quotation marks."""

_FOUND = re.compile(r'"?\{(' + "|".join(name.replace(" ", "[ _]") for name in PLACEHOLDERS) + r')\}"?')


def is_paper_prompt(text: str) -> bool:
    """Whether a prompt has the paper's placeholders."""
    return _FOUND.search(text) is not None


def from_paper(text: str) -> str:
    """The prompt with avem's placeholders; quotation marks around a text go, for it is filled in with its own.

    Example:
        >>> from_paper('Video ID: "{VIDEO ID}" costs $5. Audio Caption: "{AUDIO_CAPTION}"')
        'Video ID: "$code" costs $$5. Audio Caption: $audio_caption'
    """
    return _FOUND.sub(_ours, text.replace("$", "$$"))


def _ours(match: re.Match[str]) -> str:
    name = PLACEHOLDERS[match.group(1).replace("_", " ")]
    if name in PLAIN:
        quoted = match.group().startswith('"'), match.group().endswith('"')
        return f"{quoted[0] * chr(34)}${{{name}}}{quoted[1] * chr(34)}".replace("${" + name + "}", f"${name}")
    return f"${name}"
