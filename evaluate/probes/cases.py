"""Cases under the swap (Fig. 12): questions on which the other modality changes one model's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avem.evaluate.probes.swap import SwapItem, SwapResult

MOST_CASES = 24


@dataclass(frozen=True, slots=True)
class Case:
    """One question with every model's answer before and after the swap."""

    id: str
    clip: str
    adversary: str
    asked: str
    question: str
    answer: str
    """Text of the right option."""
    answers: tuple[tuple[str, str, str], ...]
    """Model, the likeliest option on the clip itself, and after the swap."""


def swap_cases(results: Sequence[SwapResult], most: int = MOST_CASES) -> list[Case]:
    """Questions whose answer the swap changes for some model; those on which models differ come first.

    Args:
        results: Models on the same questions, with the same replacements.
        most: At most so many.
    """
    by_model = [{item.id: item for item in result.items} for result in results]
    shared = [item for item in results[0].items if all(item.id in items for items in by_model)]
    changed = [item for item in shared if any(items[item.id].changed for items in by_model)]
    changed.sort(key=lambda item: (all(items[item.id].changed for items in by_model), -_loss(item, by_model)))
    return [_case(item, results, by_model) for item in changed[:most]]


def _loss(item: SwapItem, by_model: Sequence[dict[str, SwapItem]]) -> float:
    return max(abs(items[item.id].shift) for items in by_model)


def _case(item: SwapItem, results: Sequence[SwapResult], by_model: Sequence[dict[str, SwapItem]]) -> Case:
    answers = tuple(
        (result.name, items[item.id].before, items[item.id].after)
        for result, items in zip(results, by_model, strict=True)
    )
    return Case(item.id, item.clip, item.adversary, item.asked, item.question, item.answer, answers)
