"""The reference scorer's rules, its oddities included, for comparison with published tables.

Do not evaluate a model by these rules alone: the gold letter counts wherever it occurs as a word ("a man smiles" is
right for A), missing answers leave the denominator, and an unreadable reply to a No question counts as "yes".
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from avem.errors import DataError
from avem.evaluate.emorealm.questions import YES_NO_TASKS
from avem.records import Question

logger = logging.getLogger(__name__)

LABELS = tuple(form.format(letter) for letter in "ABCD" for form in ("({})", "{}:", "{}."))
PARSED_OPTION = re.compile(r"\s*\(?([a-z])\)?[.)]?\s*(.*)", re.IGNORECASE)


def strip_label(choice: str) -> str:
    """An option without `(A)`, `A:` or `A.`, for A to D only."""
    choice = choice.strip()
    label = next((label for label in LABELS if choice.startswith(label)), "")
    return choice.removeprefix(label).strip()


def matches(prediction: str, answer: str) -> bool:
    """Whether the right letter occurs anywhere in the reply as a word of its own, whatever its case."""
    return re.search(rf"\b{re.escape(answer)}\b", prediction, re.IGNORECASE) is not None


def parses(prediction: str, answer: str, choices: Sequence[str]) -> bool:
    """The other matcher: the first option whose letter is a word of the reply, then yes or no, then option text."""
    options = {}
    for choice in choices:
        if option := PARSED_OPTION.match(choice):
            options[option.group(1).upper()] = _plain(option.group(2))
    for letter in options:
        if matches(prediction, letter):
            return letter == answer.upper()
    reply = _plain(prediction)
    for word in ("yes", "no"):
        # A substring test, and the last such option counts: "eyes" holds yes, "now" holds no.
        holders = [letter for letter, text in options.items() if word in text]
        if holders and re.search(rf"\b{word}\b", reply):
            return holders[-1] == answer.upper()
    found = next((letter for letter, text in options.items() if text and text in reply), None)
    return found == answer.upper()


def is_right(question: Question, reply: str, use_parse_answer: bool = False) -> bool:
    """Whether the reference scorer counts a reply as right.

    Args:
        question: What was asked.
        reply: Raw text.
        use_parse_answer: Use the other matcher; the reference's evaluation never does.
    """
    reply = reply.strip().lower()
    if use_parse_answer:
        return parses(reply, question.answer, question.choices)
    return matches(reply, question.answer)


def reference_metrics(
    questions: Sequence[Question], answers: Mapping[str, str | None], use_parse_answer: bool = False
) -> dict[str, float]:
    """All numbers of the reference scorer, in percent, under its names.

    Args:
        questions: The benchmark.
        answers: Id to raw text; questions without one are left out, as the reference leaves them out.
        use_parse_answer: Use the other matcher.

    Returns:
        `<task>_overall_accuracy` for every task and `average_accuracy`; for yes/no tasks also `<task>_precision`
        (accuracy on Yes), `_recall` (accuracy on No), `_f1_score` and `_model_yes_percentage`. Where both accuracies
        are 0 the reference stops with a division by zero; here the F1 is 0.

    Raises:
        DataError: The right option of a yes/no question holds neither yes nor no.
    """
    by_task: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_task[question.task].append(question)
    metrics: dict[str, float] = {}
    for task, asked in by_task.items():
        answered = [(question, answers[question.id]) for question in asked if answers.get(question.id) is not None]
        right = [is_right(question, reply or "", use_parse_answer) for question, reply in answered]
        metrics[f"{task}_overall_accuracy"] = _percent(sum(right), len(right))
        if task in YES_NO_TASKS:
            gold = [_gold(question) for question, _ in answered]
            metrics |= {f"{task}_{name}": value for name, value in _yes_no(task, gold, right).items()}
    accuracies = [metrics[f"{task}_overall_accuracy"] for task in by_task]
    metrics["average_accuracy"] = sum(accuracies) / len(accuracies) if accuracies else 0.0
    return metrics


def _yes_no(task: str, gold: Sequence[str], right: Sequence[bool]) -> dict[str, float]:
    """Accuracy on Yes and on No, their harmonic mean, and the reference's share of yes, in percent."""
    on_yes = [correct for kind, correct in zip(gold, right, strict=True) if kind == "yes"]
    on_no = [correct for kind, correct in zip(gold, right, strict=True) if kind == "no"]
    precision, recall = _percent(sum(on_yes), len(on_yes)), _percent(sum(on_no), len(on_no))
    if precision + recall == 0:
        logger.warning("%s: nothing is right, where the reference scorer divides by zero; its F1 is given as 0.", task)
    return {
        "precision": precision,
        "recall": recall,
        "f1_score": 2 * (precision * recall) / (precision + recall) if precision + recall else 0.0,
        "model_yes_percentage": _percent(sum(on_yes) + len(on_no) - sum(on_no), len(right)),
    }


def _gold(question: Question) -> str:
    position = ord(question.answer.upper()[:1] or "?") - ord("A")
    if not 0 <= position < len(question.choices):
        raise DataError(f"The answer {question.answer!r} of {question.id} is none of its options.")
    text = strip_label(question.choices[position]).lower()
    for word in ("yes", "no"):
        if word in text:
            return word
    raise DataError(f"The right option of {question.id} ({question.task}) is neither yes nor no: {text!r}.")


def _percent(part: int, whole: int) -> float:
    return part * 100.0 / whole if whole else 0.0


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
