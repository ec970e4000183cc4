"""Results by group: language, gender, source, emotion, or any column that is known of questions or clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from avem.errors import DataError, SettingError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.metrics import Outcome
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.emorealm.scoring import score_outcomes
from avem.evaluate.intervals import few_note, interval_text
from avem.evaluate.sheets import Sheet, read_sheet
from avem.records import Question

UNKNOWN = "unknown"
CLIP_COLUMNS = ("video", "clip_id", "path")
"""Columns of a side file that may name the clip; the first one present counts."""
ALIASES = dict.fromkeys(("file", "filename", "file_name"), "path")
"""Other headings that mean one of them."""


def read_clip_columns(path: Path, columns: Sequence[str] = ("language",)) -> dict[str, dict[str, str]]:
    """Read what is known of clips: CSV with `video`, `clip_id` or `path`, and any other columns.

    Args:
        path: The file, of any usual delimiter, encoding and case of the headings; see `avem.text.csv_tables`.
        columns: Other columns to look for, so that `Language` is found as `language`. All others keep their names.

    Returns:
        Clip, without its file's suffix, to column to value.

    Raises:
        DataError: No column names the clip, or a clip occurs twice.
    """
    rows = read_sheet(path, (*CLIP_COLUMNS, *columns), ALIASES)
    named = next((column for column in CLIP_COLUMNS if rows and column in rows[0]), None)
    if named is None:
        raise DataError(f"{path} should be CSV with one of the columns {', '.join(CLIP_COLUMNS)}.")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        clip = _stem(row[named])
        if clip in found:
            raise DataError(f"{path} names the clip {row[named]} twice; keep one line.")
        found[clip] = {column: value for column, value in row.items() if column != named}
    return found


def group_of(question: Question, by: str, clips: Mapping[str, Mapping[str, str]]) -> str:
    """The group of a question: of its own field of that name, else of its clip's column; `unknown` without either."""
    own = question.extra.get(by)
    value = own if own not in (None, "") else clips.get(_stem(question.video), {}).get(by)
    return str(value) if value not in (None, "") else UNKNOWN


def group_scores(
    result: BenchResult,
    by: str,
    clips: Mapping[str, Mapping[str, str]] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Score each group by itself, by the result's headline method.

    Args:
        result: A bench result.
        by: Name of a field of the questions, or of a column of `clips`.
        clips: See `read_clip_columns`.
        resamples: Bootstrap resamples over clips.
        seed: Seed of the bootstrap.

    Returns:
        Group to what `avem.evaluate.emorealm.scoring.score_outcomes` gives, with `clips`, their number; the largest
        group first.

    Raises:
        SettingError: Nothing is known by that name.
    """
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in result.outcomes():
        groups[group_of(outcome.question, by, clips or {})].append(outcome)
    if set(groups) == {UNKNOWN}:
        raise SettingError(
            f"Nothing is known of {by}: no question has this field, and no clip this column; see --groups."
        )
    return {
        name: {
            **score_outcomes(members, resamples=resamples, seed=seed),
            "clips": len({outcome.question.video for outcome in members}),
        }
        for name, members in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    }


def group_sheet(results: Sequence[BenchResult], by: str, scores: Sequence[Mapping[str, Mapping[str, Any]]]) -> Sheet:
    """One row a group: questions, clips, and every model's average accuracy over tasks with its interval."""
    rows, records = [], []
    for name in scores[0]:
        own = [score[name] for score in scores]
        rows.append((name, str(own[0]["n"]), str(own[0]["clips"]), *map(_cell, own)))
        for result, numbers in zip(results, own, strict=True):
            low, high = numbers.get("intervals", {}).get("average_accuracy", (None, None))
            record: dict[str, Any] = {by: name, "model": result.name, "n": numbers["n"], "clips": numbers["clips"]}
            record |= {"average_accuracy": numbers["average_accuracy"], "low": low, "high": high}
            records.append(record)
    title = f"Average accuracy over tasks by {by}, percent [95 % interval over clips]"
    header = (by, "questions", "clips", *(result.name for result in results))
    return Sheet(title, header, tuple(rows), tuple(records), few_note(rows))


def _cell(numbers: Mapping[str, Any]) -> str:
    edges = numbers.get("intervals", {}).get("average_accuracy")
    return f"{numbers['average_accuracy']:.1f}{interval_text(edges, numbers['clips'])}"


def _stem(path: str) -> str:
    pure = PurePosixPath(path.replace("\\", "/"))
    return str(pure.with_suffix("")) if pure.name else path
