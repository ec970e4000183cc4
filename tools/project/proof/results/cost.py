"""What a run took: seconds of training, and scores that it looked up instead of computing them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avem.sealed.files import read_sealed
from avem.sealed.step_log import read_steps


def cost_of(run: Path) -> dict[str, int]:
    """The cost of a complete preference run.

    Args:
        run: The run directory.

    Returns:
        `seconds` of all steps together, and `constants`, the scores that the run looked up.
    """
    steps = [step for step in read_steps(run / "metrics.jsonl") if step.get("rows_per_s")]
    rows = sum(step["rows"] for step in steps)
    settings = read_sealed(run / "config.json")["settings"]
    seconds = sum(step["rows"] / step["rows_per_s"] for step in steps)
    return {"seconds": round(seconds), "constants": constants_a_row(settings) * rows}


def constants_a_row(settings: Mapping[str, Any]) -> int:
    """Scores of a preference row that a run with these settings looks up: reference and text prior of every answer."""
    weighed = sum(settings[f"beta_{name}"] > 0 for name in ("vr", "er", "irr"))
    answers = 1 + (1 if settings["rejected"] == "random" else weighed)
    inputs = 2 if settings.get("rejected_input") == "each" else 1
    return 2 * answers + inputs * int(settings["lambda_av"] > 0)
