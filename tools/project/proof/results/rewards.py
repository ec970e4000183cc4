"""Where training ended: mean rewards of the last steps, which tell what the objective was satisfied by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avem.sealed.step_log import read_steps

LAST_STEPS = 50
REWARDS = {
    "reward_w": "chosen",
    "reward_vr": "rejected, spurious",
    "reward_er": "rejected, hallucinated",
    "accuracy": "chosen before rejected, %",
    "input_accuracy": "own input before the rejected, %",
}
"""Names in `metrics.jsonl` and what they are: a reward is beta times an answer's log-ratio to the reference (Eq. 2), an
accuracy the share of the rows whose margin (Eq. 10's, Eq. 5's) is above 0."""
SHARES = ("accuracy", "input_accuracy")


def last_rewards(run: Path) -> dict[str, float]:
    """Means of `REWARDS` over the last steps of a preference run; a name that its objective has not is left out.

    Args:
        run: The run directory.

    Returns:
        Name to nats times beta, or to percent of the rows for the accuracies.
    """
    steps = [step for step in read_steps(run / "metrics.jsonl") if "reward_w" in step][-LAST_STEPS:]
    return {
        name: sum(step[name] for step in steps) / len(steps) * (100 if name in SHARES else 1)
        for name in REWARDS
        if steps and name in steps[0]
    }


def mean_rewards(seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the seeds of a run."""
    return {name: sum(own[name] for own in seeds) / len(seeds) for name in seeds[0]}
