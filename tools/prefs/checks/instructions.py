"""Check instruction rows before training: every fault with its line, leaks into benchmarks, lopsided answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.evaluate.emorealm.questions import polarity
from avem.guards.special_tokens import special_in_row
from avem.reading import parse_json, read_bytes
from avem.records import InstructionRow
from avem.tools.prefs.asking.schema import INSTRUCTION_SCHEMA, faults_of
from avem.tools.prefs.checks.leaks import ClipFacts, leak_faults
from avem.tools.prefs.checks.lexicon import emotions_named, words_of
from avem.tools.prefs.checks.report import Report
from avem.tools.prefs.checks.validate import REASONING
from avem.train.data.rows import instruction_row
from avem.train.data.targets import target_of

ENOUGH = 20
"""Fewer answers of a kind say nothing about how even they are."""
YES_SHARES = (0.4, 0.6)
"""Shares of Yes among Yes and No, in a task, that are not worth a warning."""
LETTER_SHARE = 0.4
"""One letter of four is right more often than this only where options were not shuffled."""


def validate_instructions(
    path: Path, benchmarks: Sequence[Path] = (), stores: Sequence[Path] = (), tokens: Collection[str] = ()
) -> Report:
    """Check a file of instruction rows.

    Args:
        path: JSON Lines, as `avem train --stage sft` reads them.
        benchmarks: Benchmark files that must share no clip with it.
        stores: Feature stores; with them a clip is also known by its content, and clips without sound are found.
        tokens: Special tokens of the tokenizer that the rows are for; the common ones are faults without them.

    Returns:
        Every fault, and the rows by modality and task.

    Raises:
        MissingFileError: A file or store is not there.
        DataError: The file holds no rows.
    """
    facts = ClipFacts.read(stores)
    report = Report(path=str(path))
    rows = list(_rows(path, report))
    if not report.rows:
        raise DataError(f"{path} holds no rows.")
    _check_rows(rows, report, tokens)
    report.faults += leak_faults(rows, benchmarks, facts)
    _check_answers([row for _, row in rows], report)
    tables = {
        "modality": Counter(str(row.modality) for _, row in rows),
        "task": Counter(row.task or "(none)" for _, row in rows),
    }
    report.counts = {name: dict(sorted(table.items())) for name, table in tables.items()}
    report.faults.sort(key=lambda fault: (fault.line, fault.kind))
    return report


def _rows(path: Path, report: Report) -> Iterator[tuple[int, InstructionRow]]:
    """Rows with their lines; what is none becomes a fault."""
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        report.rows += 1
        try:
            item = parse_json(line, "the line")
        except DataError as error:
            report.add(number, "not-json", str(error).removeprefix("the line ").removesuffix("."))
            continue
        row = _parse(number, item, report)
        if row is not None:
            yield number, row


def _parse(number: int, item: Any, report: Report) -> InstructionRow | None:
    caption = isinstance(item, dict) and target_of(item) is not None  # captions and transcripts are rows, too
    faults = [] if caption else faults_of(item, INSTRUCTION_SCHEMA)
    for fault in faults:
        report.add(number, "schema", fault)
    if faults:
        return None
    try:
        return instruction_row(item)
    except (ValueError, KeyError, TypeError) as error:
        report.add(number, "schema", str(error))
        return None


def _check_rows(rows: Sequence[tuple[int, InstructionRow]], report: Report, tokens: Collection[str]) -> None:
    ids: dict[str, int] = {}
    asked: dict[tuple[str, str], int] = {}
    for number, row in rows:
        if (first := ids.setdefault(row.row_id, number)) != number:
            report.add(number, "duplicate-id", f"the row_id {row.row_id} is on line {first} too")
        if (first := asked.setdefault((row.clip_id, row.question), number)) != number:
            report.add(number, "duplicate-row", f"asks the same of {row.clip_id} as line {first}", error=False)
        for name, token in special_in_row(row, tokens):
            report.add(number, "special-token", f"its {name} holds {token!r}, a special token or placeholder")
        question = row.question.partition("(A)")[0]  # options may name emotions
        if row.task.startswith(REASONING) and (told := emotions_named(words_of(question))):
            report.add(number, "label-in-question", f"the question names {', '.join(sorted(told))}", error=False)


def _check_answers(rows: Sequence[InstructionRow], report: Report) -> None:
    """Faults of the file as a whole stand on line 0."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if verdict := polarity(row.answer):
            answers[row.task][verdict] += 1
        elif "(D)" in row.question and row.answer[:1] == "(":
            answers[row.task][row.answer[1:2]] += 1
    for task, counts in answers.items():
        said = counts["yes"] + counts["no"]
        if said >= ENOUGH and not YES_SHARES[0] <= counts["yes"] / said <= YES_SHARES[1]:
            share = f"{counts['yes'] / said:.0%}"
            report.add(0, "verdict-imbalance", f"{share} of the answers of {task} are yes; see --balance", error=False)
        letters = {letter: counts[letter] for letter in "ABCD"}
        if sum(letters.values()) >= ENOUGH and max(letters.values()) > LETTER_SHARE * sum(letters.values()):
            most = max(letters, key=lambda letter: letters[letter])
            share = f"{letters[most] / sum(letters.values()):.0%}"
            report.add(0, "letter-imbalance", f"{most} is right in {share} of the questions of {task}", error=False)
