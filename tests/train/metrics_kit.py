"""What a run logged, an epoch at a time."""

from __future__ import annotations

import json
from pathlib import Path


def epoch_means(run: Path, name: str, epochs: int) -> list[float]:
    """A measure's mean over the rows of each epoch.

    Every epoch has the same rows, so two of them can be compared. Two steps cannot: their rows differ, and so may the
    difference between them, whatever was learned.
    """
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    length, rest = divmod(len(steps), epochs)
    assert length
    assert not rest, f"{len(steps)} steps are not {epochs} epochs of the same length"
    parts = [steps[start : start + length] for start in range(0, len(steps), length)]
    assert len({sum(step["rows"] for step in part) for part in parts}) == 1
    return [sum(step[name] * step["rows"] for step in part) / sum(step["rows"] for step in part) for part in parts]
