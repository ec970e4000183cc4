"""Read annotators' votes on a survey of any kind, and leave out those of annotators who fail its checks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np

from avem.endpoint.chat_replies import parse_json
from avem.errors import DataError, MissingFileError
from avem.sealed.checksums import unseal
from avem.tools.prefs.survey.items import PRETEST

ATTENTION = 0.75
"""Share of attention checks that an annotator has to pass for the votes to count."""
PRETEST_SHARE = 0.6
"""Share of the pre-test that an annotator has to get right for the votes to count."""


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
class Ballots:
    """The votes that count."""

    key: dict[str, Any]
    """The survey's key."""
    by_item: dict[str, list[Vote]]
    """Item to its votes, without those on checks and on the pre-test."""
    passed: frozenset[str]
    failed: frozenset[str]

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """The key's items by their ids."""
        return {item["id"]: item for item in self.key["items"]}


def read_ballots(
    survey: Path, results: Iterable[Path], attention: float = ATTENTION, pretest: float = PRETEST_SHARE
) -> Ballots:
    """Read the votes on a survey of any kind, and leave out those of annotators who fail its checks.

    Args:
        survey: The survey's folder, with its `key.json`.
        results: Files that annotators saved from the page, or exports of Label Studio (JSON).
        attention: Share of the attention checks that an annotator has to pass.
        pretest: Share of the pre-test that an annotator has to get right.

    Raises:
        MissingFileError: The key or a file is not there.
        DataError: A file is of another survey, or is not a file of answers.
    """
    key = read_key(survey)
    items = {item["id"]: item for item in key["items"]}
    latest = {(vote.annotator, vote.item): vote for path in results for vote in _votes(path, key["survey"], items)}
    checks = {name for name, item in items.items() if item["attention"]}
    tests = {name for name, item in items.items() if item["group"] == PRETEST}
    everyone = {vote.annotator for vote in latest.values()}
    failed = _failing(latest.values(), items, checks, attention) | _failing(latest.values(), items, tests, pretest)
    by_item: dict[str, list[Vote]] = defaultdict(list)
    for vote in latest.values():
        if vote.annotator not in failed and vote.item not in checks | tests:
            by_item[vote.item].append(vote)
    return Ballots(key, dict(by_item), frozenset(everyone - failed), frozenset(failed))


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


def _failing(votes: Iterable[Vote], items: Mapping[str, Any], names: set[str], share: float) -> set[str]:
    """Annotators who get less than a share of some items right; one who was asked none of them does not fail."""
    seen: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for vote in votes:
        if vote.item in names:
            seen[vote.annotator] += 1
            right[vote.annotator] += vote.choice == items[vote.item]["expected"]
    return {name for name, count in seen.items() if right[name] < share * count}


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
