"""What checking a preference file found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    line: int
    """Line of the file (entry of the reference's list); 0 for the file as a whole."""
    kind: str
    message: str
    error: bool = True
    """An error makes the file unfit for training; a warning is worth a look."""


@dataclass(frozen=True, slots=True)
class LengthBalance:
    """Lengths of chosen answers against one kind of rejected answer, in words."""

    kind: str
    pairs: int
    median_ratio: float
    """Of the chosen answer's length plus one to the rejected answer's plus one."""
    chosen_longer: float
    """Share of pairs."""
    rejected_longer: float
    """Share of pairs."""


@dataclass(frozen=True, slots=True)
class Separation:
    """One kind of rejected answer against the chosen one."""

    kind: str
    """The rejected answer's field."""
    pairs: int
    share: float
    """Pairs in which the words alone rank the chosen answer higher, ties counted as half; 0.5 is chance."""


@dataclass(slots=True)
class Report:
    """Faults and figures of a file."""

    path: str
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows by modality, task and emotion."""
    lengths: list[LengthBalance] = field(default_factory=list)
    text_only: list[Separation] = field(default_factory=list)

    def add(self, line: int, kind: str, message: str, *, error: bool = True) -> None:
        """Note a fault."""
        self.faults.append(Fault(line, kind, message, error))

    @property
    def errors(self) -> int:
        """How many faults make the file unfit."""
        return sum(fault.error for fault in self.faults)

    @property
    def kinds(self) -> dict[str, int]:
        """Faults by kind."""
        return dict(Counter(fault.kind for fault in self.faults).most_common())

    def to_json(self) -> dict[str, Any]:
        """Everything as a JSON object."""
        return asdict(self) | {"errors": self.errors, "kinds": self.kinds}
