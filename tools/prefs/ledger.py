"""What was left out and why, and how many are left after each step; no clip leaves the pipeline without a line here."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from avem.files import write_atomic
from avem.sealed.checksums import sealed_lines
from avem.text.escaping import markdown_cell

COLUMNS = ("asked", "declined", "unusable", "unanswered", "contradicted", "written", "guessed", "balanced out", "final")
"""Of the table of counts, in the order in which an item meets them."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something left out."""

    clip_id: str
    step: str
    reason: str
    level: str = "item"
    """`clip`: the whole clip; `side`: its sound or its pictures; `item`: one question or row."""
    item: str = ""
    passing: bool = False
    """An endpoint's failure: the same command asks again."""


class Ledger:
    """Collects rejections and counts items per task."""

    def __init__(self) -> None:
        self.rejections: list[Rejection] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        """Task to column to number."""
        self.clips: Counter[str] = Counter()
        """Clips that were there after each step."""

    def reject(self, rejection: Rejection) -> None:
        """Note something left out."""
        self.rejections.append(rejection)

    def write(self, path: Path) -> None:
        """Write every rejection, one JSON object a line, each with its checksum."""
        write_atomic(path, sealed_lines(asdict(rejection) for rejection in self.rejections))

    @property
    def passing(self) -> int:
        """Rejections that the same command may still turn into rows."""
        return sum(rejection.passing for rejection in self.rejections)

    @property
    def emptied(self) -> list[str]:
        """For each task that had questions and has none left, a sentence that says where they went."""
        said = []
        for task, counts in self.counts.items():
            if counts["written"] and not counts["final"]:
                where = ", ".join(f"{counts[name]} {name}" for name in COLUMNS if counts[name])
                said.append(f"no question of {task} is left: {where}")
        return said

    def table(self) -> list[list[str]]:
        """Counts per task as rows of text, with a total."""
        rows = [[task, *(str(counts[column]) for column in COLUMNS)] for task, counts in self.counts.items()]
        totals = [str(sum(counts[column] for counts in self.counts.values())) for column in COLUMNS]
        return [*rows, ["total", *totals]]

    def markdown(self) -> str:
        """Clips after each step and counts per task, as two Markdown tables."""
        clips = [
            "| clips | |",
            "|---|---|",
            *(f"| {markdown_cell(name)} | {count} |" for name, count in self.clips.items()),
        ]
        head = ["| task | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        return (
            "\n".join([*clips, "", *head, *("| " + " | ".join(map(markdown_cell, row)) + " |" for row in self.table())])
            + "\n"
        )
