"""Read annotators' votes: majorities, discrepancies and agreement, and what is kept (Tables 6 and 7)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np

from avem.endpoint.chat_replies import parse_json
from avem.errors import DataError, MissingFileError
from avem.files import json_lines, write_new
from avem.reading import read_json
from avem.records import Question
from avem.sealed.checksums import unseal
from avem.tools.prefs.survey.pages import read_source

ATTENTION = 0.75
"""Share of attention checks that an annotator has to pass for the votes to count."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's vote on one item."""

    annotator: str
    item: str
    choice: int
    several: bool = False
    """More than one option is right."""
    problem: str = ""
    """What is wrong with the item, in the annotator's words or a code; empty if nothing is."""


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """One row of Table 6 or 7."""

    group: str
    verified: int
    """Items with at least one vote."""
    one_correct: int
    """At least one annotator chose the expected answer."""
    majority_correct: int
    """More than half did."""
    discrepancies: int
    """More than half found something wrong, or more than one option right."""
    final: int
    """Majority correct and without discrepancy."""
    alpha: float | None
    """Krippendorff's alpha of the choices, nominal; None where it is not defined."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the votes came to."""

    groups: tuple[GroupCounts, ...]
    """By group, and the total last."""
    passed: tuple[str, ...]
    """Whose votes counted."""
    failed: tuple[str, ...]
    """Who did not pass the attention checks."""
    kept: frozenset[str]
    """Items that are right."""
    doubtful: frozenset[str]
    """Items with a discrepancy."""


def read_verdicts(survey: Path, results: Iterable[Path], attention: float = ATTENTION) -> Verdicts:
    """Read votes and decide on every item.

    Args:
        survey: The survey's folder, with its `key.json`.
        results: Files that annotators saved from the page, or exports of Label Studio (JSON).
        attention: Share of the attention checks that an annotator has to pass.

    Raises:
        MissingFileError: The key or a file is not there.
        DataError: A file is of another survey, or is not a file of answers.
    """
    key = read_key(survey)
    items = {item["id"]: item for item in key["items"]}
    votes = [vote for path in results for vote in _votes(path, key["survey"], items)]
    latest = {(vote.annotator, vote.item): vote for vote in votes}
    passed, failed = _attentive(latest.values(), items, attention)
    by_item: dict[str, list[Vote]] = defaultdict(list)
    for vote in latest.values():
        if vote.annotator in passed and not items[vote.item]["attention"]:
            by_item[vote.item].append(vote)
    right = {name for name, cast in by_item.items() if _majority(v.choice == items[name]["expected"] for v in cast)}
    doubtful = {name for name, cast in by_item.items() if _majority(v.several or bool(v.problem) for v in cast)}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in items:
        if name in by_item:
            groups[items[name]["group"]].append(name)
    counts = [_count(group, names, by_item, items, right, doubtful) for group, names in groups.items()]
    counts.append(_count("total", list(by_item), by_item, items, right, doubtful))
    return Verdicts(
        tuple(counts), tuple(sorted(passed)), tuple(sorted(failed)), frozenset(right - doubtful), frozenset(doubtful)
    )


def keep_verified(survey: Path, verdicts: Verdicts, out: Path) -> int:
    """Write the questions or rows whose items were all found right, in the format they came in.

    Returns:
        How many were written.
    """
    key = read_key(survey)
    reads = [key["source"], *(path for path in survey.rglob("*") if path.is_file())]
    asked: dict[str, set[str]] = defaultdict(set)
    for item in key["items"]:
        if not item["attention"]:
            asked[item["source"]].add(item["id"])
    source = read_source(Path(key["source"]))
    kept = [entry for entry in source if (names := asked.get(_id(entry))) and names <= verdicts.kept]
    if kept and isinstance(kept[0], Question):
        content = json.dumps([entry.to_json() for entry in kept], ensure_ascii=False, indent=1) + "\n"
    else:
        content = json_lines(entry.to_json() for entry in kept)
    write_new(out, content, reads=reads)
    return len(kept)


def read_key(survey: Path) -> dict[str, Any]:
    """What a survey asks and what is right, from its `key.json`.

    Raises:
        MissingFileError: There is none.
        DataError: It is damaged, or something else.
    """
    path = survey / "key.json"
    key = unseal(_load(path), str(path))
    items = key.get("items")
    fields = {"id": str, "group": str, "source": str, "expected": int, "attention": bool}
    whole = isinstance(items, list) and all(
        isinstance(item, dict) and all(isinstance(item.get(name), kind) for name, kind in fields.items())
        for item in items
    )
    if not whole or not all(isinstance(key.get(name), str) for name in ("survey", "source")):
        raise DataError(f"{path} is not the key of a survey; `avem prefs survey` makes one.")
    return key


def _id(entry: Any) -> str:
    return str(entry.id if isinstance(entry, Question) else entry.row_id)


def _key(path: Path) -> Any:
    """A survey's key, once it has all that is read of it."""
    key = read_json(path, dict)
    try:
        str(key["survey"]), Path(key["source"])
        for item in key["items"]:
            hash(item["id"]), hash(item["group"]), hash(item["source"]), item["attention"], item["expected"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not the key of a survey ({error}); make the survey again.") from error
    return key


def _load(path: Path) -> Any:
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}.")
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}).") from error


def _votes(path: Path, survey: str, items: Mapping[str, Any]) -> list[Vote]:
    content = _load(path)
    if isinstance(content, dict):
        content = unseal(content, str(path))
    try:
        return (
            _from_page(content, path, survey, items)
            if isinstance(content, dict)
            else _from_label_studio(content, items)
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise DataError(f"{path} is not a file of answers ({type(error).__name__}: {error}).") from error


def _from_page(content: Mapping[str, Any], path: Path, survey: str, items: Mapping[str, Any]) -> list[Vote]:
    if content["survey"] != survey:
        raise DataError(f"{path} answers another survey ({content['survey']}, not {survey}).")
    return [
        Vote(
            str(content["annotator"]),
            name,
            int(answer["choice"]),
            bool(answer.get("several")),
            str(answer.get("problem") or ""),
        )
        for name, answer in content["answers"].items()
        if answer.get("choice") is not None and name in items
    ]


def _from_label_studio(tasks: Sequence[Mapping[str, Any]], items: Mapping[str, Any]) -> list[Vote]:
    votes = []
    for task in tasks:
        for annotation in task["annotations"]:
            found = {entry["from_name"]: entry["value"]["choices"] for entry in annotation["result"]}
            if "choice" not in found or task["data"]["item"] not in items:
                continue
            who = annotation.get("completed_by")
            name = str(who.get("email") or who.get("id")) if isinstance(who, dict) else str(who)
            problem = str((found.get("problem") or [""])[0])
            votes.append(Vote(name, task["data"]["item"], int(found["choice"][0]), "several" in found, problem))
    return votes


def _attentive(votes: Iterable[Vote], items: Mapping[str, Any], attention: float) -> tuple[set[str], set[str]]:
    everyone: set[str] = set()
    seen: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for vote in votes:
        everyone.add(vote.annotator)
        if items[vote.item]["attention"]:
            seen[vote.annotator] += 1
            right[vote.annotator] += vote.choice == items[vote.item]["expected"]
    failed = {name for name in everyone if seen[name] and right[name] < attention * seen[name]}
    return everyone - failed, failed


def _majority(answers: Iterable[bool]) -> bool:
    found = list(answers)
    return sum(found) * 2 > len(found)


def _count(
    group: str,
    names: Sequence[str],
    votes: Mapping[str, Sequence[Vote]],
    items: Mapping[str, Any],
    right: set[str],
    doubtful: set[str],
) -> GroupCounts:
    inside = set(names)
    one = sum(any(vote.choice == items[name]["expected"] for vote in votes[name]) for name in names)
    return GroupCounts(
        group,
        len(names),
        one,
        len(inside & right),
        len(inside & doubtful),
        len(inside & right - doubtful),
        agreement([vote for name in names for vote in votes[name]]),
    )


def agreement(votes: Sequence[Vote]) -> float | None:
    """Krippendorff's alpha of nominal choices; None with fewer than two choices, or no item with two votes."""
    annotators = sorted({vote.annotator for vote in votes})
    names = sorted({vote.item for vote in votes})
    if len({vote.choice for vote in votes}) < 2 or len(votes) == len(names):
        return None
    table = np.full((len(annotators), len(names)), np.nan)
    for vote in votes:
        table[annotators.index(vote.annotator), names.index(vote.item)] = vote.choice
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))
