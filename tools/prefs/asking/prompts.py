"""Prompts as data files, one a step; a user's folder replaces those it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from avem.errors import DataError, MissingFileError
from avem.reading import read_text
from avem.tools.prefs.asking.paper_prompts import from_paper, is_paper_prompt
from avem.tools.prefs.steps.steps import STEPS

REPAIR = "repair"
SUFFIX = ".txt"


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompt of every step, and the one that asks for a corrected reply."""

    texts: Mapping[str, str]
    papers: frozenset[str] = frozenset()
    """Steps whose prompt is the paper's own text: their replies may have the paper's form."""

    def render(self, name: str, values: Mapping[str, str]) -> str:
        """Fill a prompt's placeholders in one pass, so that a value that looks like a placeholder stays as it is.

        Args:
            name: A step, or `repair`.
            values: Texts by placeholder; all but `code`, `emotion` and `emotions` are written as JSON strings, so that
                quotation marks and braces in them can't be taken for the prompt's own.
        """
        plain = {"code", "emotion", "emotions", "faults"}
        shown = {key: value if key in plain else json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        return Template(self.texts[name]).substitute(shown).strip()

    def title(self, name: str) -> str:
        """A prompt's first line."""
        return self.texts[name].strip().partition("\n")[0]


def load_prompts(folder: Path | None = None) -> PromptSet:
    """The built-in prompts, with those of a folder replacing them.

    Args:
        folder: Files such as `basic_audio.txt`; it need not hold all.

    A file with the paper's placeholders (`{AUDIO CAPTION}`) is taken for the paper's own prompt.

    Raises:
        MissingFileError: There is no such folder.
        DataError: A file belongs to no step, or a prompt misses a placeholder or has one that nothing fills.
    """
    ours = files("avem.tools.prefs") / "prompts"
    names = (*STEPS, REPAIR)
    texts = {name: (ours / f"{name}{SUFFIX}").read_text(encoding="utf-8") for name in names}
    papers = set()
    if folder is not None:
        if not folder.is_dir():
            raise MissingFileError(
                f"There is no folder {folder}; --prompts names one with files such as agreement.txt."
            )
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path.stem not in texts:
                raise DataError(f"{path} is not the prompt of a step; known ones: {', '.join(names)}.")
            text = read_text(path)
            if is_paper_prompt(text) or (path.stem in ANNOUNCED and "$" not in text):
                papers.add(path.stem)
                text = from_paper(text)
            texts[path.stem] = text
            _check(path, text, path.stem in papers)
    return PromptSet(texts, frozenset(papers))


ANNOUNCED = ("audio_caption", "video_caption")
"""Steps whose prompt the paper prints without any placeholder."""


def _check(path: Path, text: str, paper: bool) -> None:
    template = Template(text)
    if not template.is_valid():
        raise DataError(f"{path} has a $ that begins no placeholder; write $$ for a dollar sign.")
    found = set(template.get_identifiers())
    step = STEPS.get(path.stem)
    needed = set(step.placeholders) if step else {"faults"}
    if paper:
        needed -= {"code", "emotions"}  # the paper names neither everywhere
    if missing := needed - found:
        raise DataError(f"{path} has no ${', $'.join(sorted(missing))}, which the step fills in; add it.")
    if strange := found - needed - set(step.placeholders if step else ()) - {"code", "emotions"}:
        raise DataError(f"{path} asks for ${', $'.join(sorted(strange))}, which the step does not know.")
