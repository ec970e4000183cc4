"""Check preference rows before training: every fault with its line, and shortcuts that a model could take."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avem.errors import DataError
from avem.files import is_json_list
from avem.guards.special_tokens import special_in_row
from avem.reading import as_utf8, parse_json, read_bytes
from avem.records import Emotion, Modality, PreferenceRow
from avem.tools.prefs.asking.schema import ROW_SCHEMA, faults_of
from avem.tools.prefs.checks.leaks import ClipFacts, leak_faults
from avem.tools.prefs.checks.lexicon import emotions_named, words_of
from avem.tools.prefs.checks.report import LengthBalance, Report
from avem.tools.prefs.checks.textonly import separation
from avem.tools.prefs.formats import is_reference, load_entries, reference_item, rejected_answers

LENGTH_RATIO = 1.25
"""A chosen answer so much longer or shorter than a rejected one, at the median, can be recognised by its length."""
SEPARABLE = 0.75
"""Share of pairs that words alone may rank right before it is said; 0.5 is chance."""
REASONING = "reasoning_basic"
"""Tasks of this beginning ask for the emotion's cues, so their questions must not name it."""


@dataclass(slots=True)
class _Lengths:
    """Words of chosen and rejected answers, for one kind."""

    ratios: list[float] = field(default_factory=list)
    chosen_longer: int = 0
    rejected_longer: int = 0


def validate(
    path: Path,
    benchmarks: Sequence[Path] = (),
    stores: Sequence[Path] = (),
    seed: int = 0,
    tokens: Collection[str] = (),
) -> Report:
    """Check a preference file, ours or in the reference's form.

    Args:
        path: The file.
        benchmarks: Benchmark files that must share no clip with it.
        stores: Feature stores; with them a clip is also known by its content, and clips without sound are found.
        seed: Of the sample that the text-only classifier sees.
        tokens: Special tokens of the tokenizer that the rows are for; the common ones are faults without them.

    Returns:
        Every fault and the figures of the whole file.

    Raises:
        MissingFileError: A file or store is not there.
        DataError: A file in the reference's form is not a JSON list, or holds no rows.
    """
    facts = ClipFacts.read(stores)
    report = Report(path=str(path))
    rows: list[tuple[int, PreferenceRow]] = []
    lengths: dict[str, _Lengths] = defaultdict(_Lengths)
    for number, item in _items(path, report):
        report.rows += 1
        if (row := _parse(number, item, report)) is not None:
            rows.append((number, row))
            _check_row(number, row, lengths, report, tokens)
    if not report.rows:
        raise DataError(f"{path} holds no rows.")
    _check_repeats(rows, report)
    report.faults += leak_faults(rows, benchmarks, facts)
    report.counts = _counts([row for _, row in rows])
    report.lengths = [_balance(kind, found) for kind, found in sorted(lengths.items())]
    report.text_only = separation([row for _, row in rows], seed) if rows else []
    _check_file(report)
    report.faults.sort(key=lambda fault: (fault.line, fault.kind))
    return report


def _items(path: Path, report: Report) -> Iterator[tuple[int, Any]]:
    """Objects with their line, or entry in the reference's form; lines that are not JSON become faults."""
    if is_reference(path):
        for number, entry in enumerate(load_entries(path), start=1):
            yield number, reference_item(entry, number)
        return
    data = as_utf8(read_bytes(path), str(path))
    if is_json_list(data):
        yield from enumerate(load_entries(path), start=1)
        return
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(line, "the line")
        except DataError as error:
            report.rows += 1
            report.add(number, "not-json", str(error).removeprefix("the line ").removesuffix("."))


def _parse(number: int, item: Any, report: Report) -> PreferenceRow | None:
    faults = faults_of(item, ROW_SCHEMA)
    for fault in faults:
        report.add(number, "schema", fault)
    if faults:
        return None
    emotion = item.get("emotion")
    known = {"modality": Modality(item["modality"]), "emotion": None if emotion is None else Emotion(emotion)}
    return PreferenceRow(**item | known)


def _check_row(
    number: int, row: PreferenceRow, lengths: dict[str, _Lengths], report: Report, tokens: Collection[str]
) -> None:
    chosen = words_of(row.chosen)
    named, rejected_named = emotions_named(chosen), []
    for kind, answer in rejected_answers(row):
        if answer.strip() == row.chosen.strip():
            report.add(number, "equal-answers", f"{kind} equals the chosen answer")
        words = words_of(answer)
        rejected_named.append(emotions_named(words))
        found = lengths[kind]
        found.ratios.append((len(chosen) + 1) / (len(words) + 1))
        found.chosen_longer += len(chosen) > len(words)
        found.rejected_longer += len(chosen) < len(words)
    for name, token in special_in_row(row, tokens):
        report.add(number, "special-token", f"its {name} holds {token!r}, a special token or placeholder")
    if rejected_named and all(named != other for other in rejected_named):
        report.add(number, "emotion-words", _giveaway(named, rejected_named), error=False)
    if row.task.startswith(REASONING) and (told := emotions_named(words_of(row.question))):
        report.add(number, "label-in-question", f"the question names {', '.join(sorted(told))}", error=False)


def _giveaway(named: frozenset[Emotion], others: Sequence[frozenset[Emotion]]) -> str:
    said = ", ".join(sorted(named)) or "no emotion"
    rest = " and ".join(", ".join(sorted(other)) or "none" for other in others)
    return f"the chosen answer names {said}, the rejected ones {rest}"


def _check_repeats(rows: Sequence[tuple[int, PreferenceRow]], report: Report) -> None:
    ids: dict[str, int] = {}
    asked: dict[tuple[str, str], int] = {}
    for number, row in rows:
        if (first := ids.setdefault(row.row_id, number)) != number:
            report.add(number, "duplicate-id", f"the row_id {row.row_id} is on line {first} too")
        if (first := asked.setdefault((row.clip_id, row.question), number)) != number:
            report.add(number, "duplicate-row", f"asks the same of {row.clip_id} as line {first}", error=False)


def _counts(rows: Sequence[PreferenceRow]) -> dict[str, dict[str, int]]:
    tables = {
        "modality": Counter(str(row.modality) for row in rows),
        "task": Counter(row.task or "(none)" for row in rows),
        "emotion": Counter(str(row.emotion or "(none)") for row in rows),
    }
    return {name: dict(sorted(table.items())) for name, table in tables.items()}


def _balance(kind: str, found: _Lengths) -> LengthBalance:
    total = len(found.ratios)
    return LengthBalance(
        kind, total, float(np.median(found.ratios)), found.chosen_longer / total, found.rejected_longer / total
    )


def _check_file(report: Report) -> None:
    """Faults of the file as a whole stand on line 0."""
    for balance in report.lengths:
        if not 1 / LENGTH_RATIO <= balance.median_ratio <= LENGTH_RATIO:
            said = f"chosen answers have {balance.median_ratio:.2f} times the words of {balance.kind} at the median"
            report.add(0, "length-imbalance", said, error=False)
    for result in report.text_only:
        if result.share > SEPARABLE:
            said = f"words alone rank the chosen answer above {result.kind} in {result.share:.0%} of pairs"
            report.add(0, "text-only", said, error=False)
