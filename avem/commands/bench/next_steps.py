"""What usually follows a bench: which modality the answers depend on, and a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING

from avem.commands.options import DEFAULT_QUESTIONS, Style, command_line
from avem.guards.inputs import is_result
from avem.text.escaping import file_name

if TYPE_CHECKING:
    from avem.evaluate import BenchResult


def next_steps(
    results: Sequence[BenchResult], models: Sequence[str], out: Path, *, cache: Path, questions: Path, style: str
) -> list[str]:
    """Lines with commands to copy.

    Args:
        results: What was benched.
        models: What the command named: folders, hub ids or earlier results.
        out: Where the results are.
        cache: The store.
        questions: The benchmark file.
        style: How the questions were asked.
    """
    from avem.evaluate.probes.swap import ASKED

    asked = () if questions == DEFAULT_QUESTIONS else ("--questions", questions)
    styled = () if style == Style.LETTERS else ("--style", style)
    store = () if cache == Path("./cache") else ("--cache", cache)
    reading = [part for model in filterfalse(is_result, models) for part in ("--model", model)]
    lines = []
    features = all("text_only" in result.scores for result in results)  # asked without media, too
    if reading and features and any(item.question.task in ASKED for item in results[0].items):
        lines.append(f"Next: {command_line('avem probe swap', *reading, *asked, *styled, *store)}")
    if len(results) == 1:
        earlier = out / file_name(results[0].name)
        compare = command_line("avem bench emorealm --model ANOTHER", "--compare", earlier, *asked, *styled, *store)
        lines.append(f"To compare with another model: {compare}")
    return lines
