"""What `avem doctor` found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from textwrap import wrap
from typing import Any

from avem.guards.secrets import mask_json

WIDTH = 80
INDENT, NAMES = 2, 19
"""Columns before a name, and those that names take."""
PURPOSE = "avem trains and tests AI models that explain the emotions people show in videos."
TITLES = {
    "software": "Programs that avem uses",
    "machine": "This computer",
    "kernels": "Computing",
    "store": "Reading what avem has stored of videos",
    "step": "One training step of a small model, done in two ways",
}
"""What a section is about; others go by their name."""
NEXT = (
    "To see avem work without data of your own, run `avem demo`. It draws its own videos, trains a small model and "
    "writes a report, in about five minutes, or more on a slow or busy computer.",
    "To use your own videos, begin with `avem extract --help`. `avem --help` lists everything else.",
)
FIRST = "Do what the remarks marked Problem say, then run `avem doctor` again."


class Verdict(StrEnum):
    """Whether something is as it should be."""

    OK = "ok"
    NOTE = "note"
    """It works, and something is worth knowing."""
    PROBLEM = "problem"
    """Something that avem needs does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    section: str
    """`software`, `machine`, `kernels`, `store` or `step`."""
    name: str
    value: str
    """What came out, for people."""
    verdict: Verdict = Verdict.OK
    advice: str = ""
    """What to do, a sentence; empty where nothing is to be done."""
    numbers: Mapping[str, Any] | None = None
    """The same for programs."""
    label: str = ""
    """What people read instead of the name, which programs read."""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order in which they were made."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> list[Finding]:
        """What does not work."""
        return [finding for finding in self.findings if finding.verdict == Verdict.PROBLEM]

    @property
    def remarks(self) -> list[Finding]:
        """What has advice, problems first."""
        ordered = sorted(self.findings, key=lambda finding: finding.verdict != Verdict.PROBLEM)
        return [finding for finding in ordered if finding.advice]

    def lines(self) -> list[str]:
        """The report as lines for a terminal of 80 columns."""
        remarks = self.remarks
        lines = [*wrap(PURPOSE, WIDTH), *wrap(self._result, WIDTH)]
        section = ""
        for finding in self.findings:
            if finding.section != section:
                section = finding.section
                lines += ["", TITLES.get(section, section.capitalize())]
            lines += _shown(finding, remarks.index(finding) + 1 if finding in remarks else 0)
        if remarks:
            lines += ["", "Remarks"]
        for number, finding in enumerate(remarks, 1):
            mark = f"[{number}] " + ("Problem: " if finding.verdict == Verdict.PROBLEM else "")
            lines += _wrapped(f"{mark}{finding.advice}", " " * INDENT, " " * (INDENT + len(f"[{number}] ")))
        lines += ["", "What to do next"]
        for sentence in [FIRST] if self.problems else NEXT:
            lines += _wrapped(sentence, " " * INDENT, " " * INDENT)
        return lines

    @property
    def _result(self) -> str:
        """Whether avem works here, and where to read on."""
        count, said = len(self.problems), len(self.remarks)
        see = "" if not said else " See remark [1] below." if said == 1 else f" See remarks [1] to [{said}] below."
        if not count:
            return f"It works on this computer.{see}"
        things = "1 thing that it needs does" if count == 1 else f"{count} things that it needs do"
        return f"It can't be relied on here: {things} not work.{see}"

    def to_json(self) -> dict[str, Any]:
        """Everything, without secrets, for a bug report."""
        found = [
            {
                "section": finding.section,
                "name": finding.name,
                "value": finding.value,
                "verdict": str(finding.verdict),
                **({"advice": finding.advice} if finding.advice else {}),
                **({"numbers": dict(finding.numbers)} if finding.numbers else {}),
            }
            for finding in self.findings
        ]
        return {"findings": mask_json(found), "problems": len(self.problems)}


def _shown(finding: Finding, remark: int) -> list[str]:
    """A finding as a name and what came out, with the number of its remark."""
    name = f"{' ' * INDENT}{finding.label or finding.name:<{NAMES}}"
    return _wrapped(finding.value + (f" [{remark}]" if remark else ""), f"{name} ", " " * (len(name) + 1))


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
