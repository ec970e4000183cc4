"""The cases under the verdict: what training fixed, what is still wrong and what it broke, with an example of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from avem.evaluate.report.cards import CardView, QuestionView

COMPARED = {"gained": "Fixed", "neither": "Still wrong", "lost": "Broken"}
ALONE = {"right": "Right", "wrong": "Wrong"}
"""Outcomes of `QuestionView` that are shown, and their titles: first model against last, and of a single model."""


@dataclass(frozen=True, slots=True)
class Case:
    """All questions of one outcome."""

    outcome: str
    title: str
    says: str
    """One sentence on what the questions have in common."""
    count: int
    tasks: tuple[tuple[str, int], ...]
    """Name of each task and its number of these questions, largest first."""
    answers: tuple[tuple[str, int], ...]
    """Right answers of the yes/no questions among them: `yes` and `no` with their numbers; empty without any."""
    card: CardView | None
    """Clip of the example; None where no question has this outcome."""
    example: QuestionView | None


def make_cases(names: Sequence[str], cards: Sequence[CardView]) -> tuple[Case, ...]:
    """Count the questions of each outcome and choose the clearest example.

    The example is the question on which the last model moved most: towards the right answer (fixed), away from it
    (broken), or which it answers wrongly with most probability (still wrong). Clips with pictures come first.

    Args:
        names: The models; the last is compared with the first.
        cards: As `make_cards` returns them.
    """
    titles = COMPARED if len(names) > 1 else ALONE
    found = [(card, question) for card in cards for question in card.questions]
    cases = []
    for outcome, title in titles.items():
        group = [(card, question) for card, question in found if question.outcome == outcome]
        best = max(group, key=lambda each: (bool(each[0].picture.strip), _clearness(each[1])), default=(None, None))
        tasks = Counter(question.task_name for _, question in group)
        yes_no = Counter(answer for _, question in group if (answer := _yes_or_no(question)))
        answers = tuple((answer, yes_no[answer]) for answer in ("yes", "no")) if yes_no else ()
        says = _sentence(outcome, names)
        cases.append(Case(outcome, title, says, len(group), tuple(tasks.most_common()), answers, *best))
    return tuple(cases)


def _sentence(outcome: str, names: Sequence[str]) -> str:
    first, last = names[0], names[-1]
    return {
        "gained": f"{first} is wrong, {last} is right.",
        "neither": f"{first} and {last} are both wrong.",
        "lost": f"{first} is right, {last} is wrong.",
        "right": f"{first} chooses the right option.",
        "wrong": f"{first} chooses another option, or none.",
    }[outcome]


def _yes_or_no(question: QuestionView) -> str:
    """The right answer of a yes/no question, else an empty text."""
    texts = [option.text.strip().lower() for option in question.options]
    right = [option.text.strip().lower() for option in question.options if option.right]
    return right[0] if sorted(texts) == ["no", "yes"] and right else ""


def _clearness(question: QuestionView) -> float:
    """How far the last model's probability of the right answer is from the first's, or from 0 or 100 percent."""
    shares = next((option.shares for option in question.options if option.right), ())
    first, last = (shares[0], shares[-1]) if shares else (None, None)
    if first is None or last is None:
        return 0.0
    if question.outcome in ("gained", "lost"):
        return abs(last - first)
    return last if question.outcome == "right" else 100 - last
