"""What a sweep's table can show of a run: EmoReAlM's columns as the paper joins them (D.5), and how training went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avem.sealed.step_log import read_steps

SIDES = ("audio", "video")

MEASURES = {
    "basic": "Basic",
    "agree": "Agree.",
    "stress": "Stress",
    "spurious": "Spur.",
    "hallucinated": "Hall.",
    "basic_audio": "Basic, audio",
    "basic_video": "Basic, visual",
    "stress_audio": "Stress, audio",
    "stress_video": "Stress, visual",
    "dfew_uar": "DFEW UAR",
    "dfew_war": "DFEW WAR",
    "ravdess_uar": "RAVDESS UAR",
    "ravdess_war": "RAVDESS WAR",
    "mer2023_f1": "MER2023 F1",
    "loss": "loss",
    "margin": "margin",
    "accuracy": "accuracy",
    "input_accuracy": "input accuracy",
    "held_loss": "held-out loss",
    "held_accuracy": "held-out accuracy",
    "reliance_audio": "audio reliance",
    "reliance_video": "video reliance",
}
"""Every measure and its heading. The first fourteen are in percent; the others are the last that the run logged."""

BENCHED = tuple(MEASURES)[:9]
"""Those of EmoReAlM's questions."""
RECOGNISED = tuple(MEASURES)[9:14]
"""Those of emotion sets whose clips are in the store (Table 2)."""


def bench_measures(score: Mapping[str, Any]) -> dict[str, float]:
    """Table 5's columns from EmoReAlM's metrics; those without questions in the benchmark are left out.

    Args:
        score: As `avem.evaluate.emorealm.scoring.score` returns it.

    Returns:
        `basic`: mean accuracy of the two basic tasks; `agree`: F1 of modality agreement; `stress`: mean F1 of the two
        stress tasks; `spurious` and `hallucinated`: mean accuracy on these subtasks of the stress tasks (D.5). With a
        side in the name: one of the two (Table 3).
    """
    tasks, subtasks = score["tasks"], score["subtasks"]
    parts = {
        "basic": [tasks.get(f"reasoning_basic_{side}", {}).get("accuracy") for side in SIDES],
        "agree": [tasks.get("modality_agreement", {}).get("f1")],
        "stress": [tasks.get(f"reasoning_stress_{side}", {}).get("f1") for side in SIDES],
    }
    for name in ("spurious", "hallucinated"):
        parts[name] = [subtasks.get(f"reasoning_stress_{side}", {}).get(name, {}).get("accuracy") for side in SIDES]
    for side in SIDES:
        parts[f"basic_{side}"] = [tasks.get(f"reasoning_basic_{side}", {}).get("accuracy")]
        parts[f"stress_{side}"] = [tasks.get(f"reasoning_stress_{side}", {}).get("f1")]
    known = {name: [value for value in values if value is not None] for name, values in parts.items()}
    return {name: sum(values) / len(values) for name, values in known.items() if values}


def training_measures(run: Path) -> dict[str, float]:
    """The last value that a run logged of each measure."""
    found: dict[str, float] = {}
    for values in read_steps(run / "metrics.jsonl"):
        found |= {name: float(values[name]) for name in MEASURES if name in values}
    return found
