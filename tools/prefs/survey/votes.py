"""Read annotators' votes: majorities, discrepancies and agreement, and what is kept (Tables 6 and 7)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.files import json_lines, write_new
from avem.records import Question
from avem.tools.prefs.survey.ballots import ATTENTION, PRETEST_SHARE, Vote, agreement, read_ballots, read_key
from avem.tools.prefs.survey.items import PRETEST, Entry, read_source


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
    """Majority correct and without discrepancy, and those corrected by hand."""
    alpha: float | None
    """Krippendorff's alpha of the choices, nominal; None where it is not defined."""
    corrected: int = 0
    """Of `final`, those corrected by hand."""
    flags: dict[str, int] = field(default_factory=dict)
    """What annotators said was wrong (Fig. 6), with the number of votes; `several`: several options are right."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the votes came to."""

    groups: tuple[GroupCounts, ...]
    """By group, and the total last."""
    passed: tuple[str, ...]
    """Whose votes counted."""
    failed: tuple[str, ...]
    """Who did not pass the pre-test or the attention checks."""
    kept: frozenset[str]
    """Items that are right."""
    doubtful: frozenset[str]
    """Items with a discrepancy."""


def read_verdicts(
    survey: Path,
    results: Iterable[Path],
    attention: float = ATTENTION,
    pretest: float = PRETEST_SHARE,
    corrected: Iterable[str] = (),
) -> Verdicts:
    """Read votes and decide on every item.

    Args:
        survey: The survey's folder, with its `key.json`.
        results: Files that annotators saved from the page, or exports of Label Studio (JSON).
        attention: Share of the attention checks that an annotator has to pass.
        pretest: Share of the pre-test that an annotator has to get right.
        corrected: Questions or rows that were corrected by hand; their items count as final.

    Raises:
        MissingFileError: The key or a file is not there.
        DataError: A file is of another survey, or is not a file of answers.
    """
    ballots = read_ballots(survey, results, attention, pretest)
    items, by_item = ballots.items, ballots.by_item
    mended = {name for name, item in items.items() if item["source"] in set(corrected)}
    right = {name for name, cast in by_item.items() if _majority(v.choice == items[name]["expected"] for v in cast)}
    doubtful = {name for name, cast in by_item.items() if _majority(v.several or bool(v.problem) for v in cast)}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in items:
        if name in by_item:
            groups[items[name]["group"]].append(name)
    final = (right - doubtful) | (mended & by_item.keys())
    counts = [_count(group, names, by_item, items, right, doubtful, final) for group, names in groups.items()]
    counts.append(_count("total", list(by_item), by_item, items, right, doubtful, final))
    return Verdicts(
        tuple(counts),
        tuple(sorted(ballots.passed)),
        tuple(sorted(ballots.failed)),
        frozenset(final),
        frozenset(doubtful),
    )


def read_corrections(path: Path | None) -> dict[str, Entry]:
    """Questions or rows that were corrected by hand, by their id; empty without a file.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is neither a benchmark nor preference rows.
    """
    return {} if path is None else {_id(entry): entry for entry in read_source(path)}


def write_doubtful(survey: Path, verdicts: Verdicts, out: Path) -> int:
    """Write the questions or rows with a discrepancy, in the format they came in, to be corrected by hand.

    Returns:
        How many were written.
    """
    key = read_key(survey)
    wanted = {item["source"] for item in key["items"] if item["id"] in verdicts.doubtful}
    entries = [entry for entry in read_source(Path(key["source"])) if _id(entry) in wanted]
    _write_entries(entries, out, [key["source"]])
    return len(entries)


def _write_entries(entries: Sequence[Entry], out: Path, reads: Sequence[str | Path]) -> None:
    if entries and isinstance(entries[0], Question):
        content = json.dumps([entry.to_json() for entry in entries], ensure_ascii=False, indent=1) + "\n"
    else:
        content = json_lines(entry.to_json() for entry in entries)
    write_new(out, content, reads=reads)


def keep_verified(
    survey: Path,
    verdicts: Verdicts,
    out: Path,
    corrections: Mapping[str, Entry] | None = None,
) -> int:
    """Write the questions or rows whose items were all found right, in the format they came in.

    Args:
        survey: The survey's folder.
        verdicts: What the votes came to.
        out: The file to write.
        corrections: See `read_corrections`; they take the place of what they correct.

    Returns:
        How many were written.

    Raises:
        DataError: A correction is of a question or row that the survey does not have.
    """
    corrections = corrections or {}
    key = read_key(survey)
    reads = [key["source"], *(path for path in survey.rglob("*") if path.is_file())]
    asked: dict[str, set[str]] = defaultdict(set)
    for item in key["items"]:
        if not item["attention"] and item["group"] != PRETEST:
            asked[item["source"]].add(item["id"])
    if strange := corrections.keys() - asked.keys():
        raise DataError(f"The survey has no {min(strange)}, which is among the corrections; keep the ids as they are.")
    source = read_source(Path(key["source"]))
    kept = [
        corrections.get(_id(entry), entry)
        for entry in source
        if (names := asked.get(_id(entry))) and names <= verdicts.kept
    ]
    _write_entries(kept, out, reads)
    return len(kept)


def _id(entry: Any) -> str:
    return str(entry.id if isinstance(entry, Question) else entry.row_id)


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
    final: set[str],
) -> GroupCounts:
    inside = set(names)
    one = sum(any(vote.choice == items[name]["expected"] for vote in votes[name]) for name in names)
    return GroupCounts(
        group,
        len(names),
        one,
        len(inside & right),
        len(inside & doubtful),
        len(inside & final),
        agreement([vote for name in names for vote in votes[name]]),
        len(inside & final - (right - doubtful)),
        dict(sorted(Counter(flag for name in names for vote in votes[name] for flag in _flags(vote)).items())),
    )


def _flags(vote: Vote) -> list[str]:
    return ["several"] * vote.several + ([vote.problem] if vote.problem else [])
