"""What a run found: tables for people, and the same numbers for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

FILES = ("results.md", "results.json")
Value = float | int | str | None


class Status(StrEnum):
    """What became of a part."""

    RAN = "ran"
    NOT_RUN = "not run"
    NO_MEMORY = "out of memory"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one kind; parts of the same title are one table."""

    title: str
    rows: tuple[Mapping[str, Value], ...]
    """By column; None for what was not measured."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A part that had its turn."""

    name: str
    status: Status
    reason: str = ""
    predicted_s: float | None = None
    seconds: float | None = None
    table: Table | None = None


@dataclass(slots=True)
class Results:
    """All outcomes of a run, in order.

    Args:
        folder: Where `results.md` and `results.json` go.
        about: Device, versions and options.
        planned: Names of all parts.
    """

    folder: Path
    about: Mapping[str, Value]
    planned: Sequence[str] = ()
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in a part."""
        self.outcomes.append(outcome)

    def ran(self, name: str) -> bool:
        """Whether a part has run."""
        return any(outcome.name == name and outcome.status == Status.RAN for outcome in self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        """Parts that raised something other than a lack of memory."""
        return [outcome for outcome in self.outcomes if outcome.status == Status.FAILED]

    def seconds(self, name: str) -> float | None:
        """What a part took; None where it has not run."""
        return next((outcome.seconds for outcome in self.outcomes if outcome.name == name), None)

    def write(self) -> None:
        """Write both files; each is complete or the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = (self.markdown(), json.dumps(self.to_json(), indent=2) + "\n")
        for name, text in zip(FILES, texts, strict=True):
            new = self.folder / f"{name}.new"
            new.write_text(text, encoding="utf-8")
            new.replace(self.folder / name)

    def to_json(self) -> dict[str, Any]:
        """Everything, numbers unrounded."""
        parts = [
            {
                "name": outcome.name,
                "status": str(outcome.status),
                "reason": outcome.reason,
                "predicted_s": outcome.predicted_s,
                "seconds": outcome.seconds,
                "table": None if outcome.table is None else outcome.table.title,
                "rows": [] if outcome.table is None else [dict(row) for row in outcome.table.rows],
                "notes": [] if outcome.table is None else list(outcome.table.notes),
            }
            for outcome in self.outcomes
        ]
        return {"about": dict(self.about), "parts": parts, "waiting": self._waiting()}

    def _waiting(self) -> list[str]:
        had = {outcome.name for outcome in self.outcomes}
        return [name for name in self.planned if name not in had]

    def markdown(self) -> str:
        """Tables as `docs/performance.md` has them, and what did not run."""
        lines = [", ".join(f"{name}: {value}" for name, value in self.about.items()), ""]
        titles = dict.fromkeys(outcome.table.title for outcome in self.outcomes if outcome.table)
        for title in titles:
            tables = [one.table for one in self.outcomes if one.table and one.table.title == title]
            rows = [row for table in tables for row in table.rows]
            columns = list(dict.fromkeys(column for row in rows for column in row))
            lines += [f"**{title}**", "", _line(columns), "|" + "---|" * len(columns)]
            lines += [_line([_shown(row.get(column)) for column in columns]) for row in rows]
            lines += ["", *dict.fromkeys(note for table in tables for note in table.notes), ""]
        missing = [f"* {one.name}: {one.status}, {one.reason}" for one in self.outcomes if one.status != Status.RAN]
        missing += [f"* {name}: {Status.NOT_RUN}, its turn has not come" for name in self._waiting()]
        lines += missing or ["Every part ran."]
        return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
