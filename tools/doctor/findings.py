"""What `avem doctor` found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from textwrap import wrap
from typing import Any

from avem.guards.secrets import mask_json

WIDTH = 80
TITLES = {
    "kernels": "What torch can do here",
    "store": "Reading a feature store",
    "step": "One training step on a small model: what rows share computed once, or each time",
}
"""What a section is about; others go by their name."""


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


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order in which they were made."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> list[Finding]:
        """What does not work."""
        return [finding for finding in self.findings if finding.verdict == Verdict.PROBLEM]

    @property
    def advice(self) -> list[str]:
        """What to do, problems first."""
        ordered = sorted(self.findings, key=lambda finding: finding.verdict != Verdict.PROBLEM)
        return [finding.advice for finding in ordered if finding.advice]

    def lines(self) -> list[str]:
        """The report as lines for a terminal of 80 columns."""
        lines: list[str] = []
        section = ""
        for finding in self.findings:
            if finding.section != section:
                section = finding.section
                lines += ["", TITLES.get(section, section.capitalize())]
            mark = "" if finding.verdict == Verdict.OK else f"  [{finding.verdict}]"
            lines.append(f"  {finding.name:<24} {finding.value}{mark}")
        count = len(self.problems)
        does_not = (
            "1 thing that avem needs does not work." if count == 1 else f"{count} things that avem needs do not work."
        )
        lines += ["", does_not if count else "Everything that avem needs works here."]
        lines += ["What to do" if count else "Good to know"] if self.advice else []
        for sentence in self.advice:
            lines += wrap(sentence, WIDTH, initial_indent="  * ", subsequent_indent="    ", break_on_hyphens=False)
        return lines[1:]

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
