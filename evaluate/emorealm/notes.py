"""What a reader of a table of results has to know: how models were scored, and what makes a number doubtful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from avem.evaluate.emorealm.questions import polarities
from avem.evaluate.emorealm.results import BenchResult, Item
from avem.evaluate.emorealm.subtasks import subtask_note
from avem.evaluate.emorealm.summary import other_name
from avem.evaluate.intervals import FEWEST
from avem.starts import released_tuned

ONE_LETTER = 0.95
"""Share of questions with one and the same letter from which a model is thought not to read the options."""
MOSTLY = 0.8
"""Share of these that are right from which the questions, and not the model, are taken for the reason."""


def notes(results: Sequence[BenchResult]) -> list[str]:
    """What a reader of the table has to know: how each model was scored, and which columns are missing and why."""
    same = [_same_note(results[0], other) for other in results[1:]]
    second = [OTHER_NOTES[name] for name in [other_name(results)] if name in OTHER_NOTES and _both(results)]
    return [*map(method_note, results), *second, *filter(None, [subtask_note(results[0].questions), *same])]


def _both(results: Sequence[BenchResult]) -> bool:
    """Whether any result has answers by both methods."""
    return any({"likelihood", "generation"} <= result.scores.keys() for result in results)


def _same_note(base: BenchResult, other: BenchResult) -> str:
    """That two models give the same answer to every question, and what that may mean; empty where they do not."""
    chosen = {outcome.question.id: outcome.letter for outcome in base.outcomes()}
    if any(outcome.letter != chosen.get(outcome.question.id) for outcome in other.outcomes()):
        return ""
    return (
        f"{other.name} answers every question as {base.name} does. If it was trained from it, `avem report` on the run "
        "shows whether training moved it too little."
    )


def method_note(result: BenchResult) -> str:
    """How a model was scored, and whether it is a released model that is tuned already."""
    tuned = released_tuned(result.name)
    also = (
        f" It is already tuned with {tuned.method}: compare it with the paper's row + {tuned.method}." if tuned else ""
    )
    doubt = letter_note(result)
    return f"{result.name}: {METHOD_NOTES[result.method]}{also}" + (f" {doubt}" if doubt else "")


def letter_note(result: BenchResult) -> str:
    """That a model seems unable to answer by letter, and what to do; empty where it can, or too little is known.

    Two signs, on questions that are not answered by yes or no: the letters are exactly as likely as each other (the
    tokenizer reads them as one unknown token), or one letter is chosen nearly always, though it is often wrong.
    """
    items = [item for item in result.items if not item.absent and not polarities(item.question)]
    if result.style != "letters" or result.method != "likelihood" or not items:
        return ""
    chosen = Counter(item.letter("likelihood") for item in items)
    cure = "--style cloze scores the texts of the options instead."
    if chosen[None] > len(items) / 2:
        return f"Its letters are exactly as likely as each other in {chosen[None]} of {len(items)} questions: {cure}"
    letter, times = chosen.most_common(1)[0]
    if len(items) < FEWEST or times < ONE_LETTER * len(items) or _right(items, letter) > MOSTLY * times:
        return ""
    return f"It chooses ({letter}) in {times} of {len(items)} questions, whatever the options are: {cure}"


def _right(items: Sequence[Item], letter: str | None) -> int:
    """How many questions have this letter as their answer."""
    return sum(item.question.answer.upper() == letter for item in items)


OTHER_NOTES = {
    "as written": "as written: the option that the written reply names counts; a reply that names none is wrong.",
    "likeliest": "likeliest: the option with the highest log-probability counts.",
}
"""Of the column of the second method, by its name."""

METHOD_NOTES = {
    "likelihood": "the option with the highest log-probability counts.",
    "generation": "the option that the written reply names counts, as in the paper.",
}
