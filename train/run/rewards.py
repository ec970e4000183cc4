"""Where the rewards of a preference run end, and what that says: an answer that moved the wrong way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LAST_STEPS = 50
"""Most steps that the end of a run is a mean of; at most a fifth of the run."""
NOTHING = 0.005
"""Rewards this near to 0 have not moved."""

ANSWERS = {
    "reward_w": "the chosen answer",
    "reward_vr": "the video-relevant rejected answer",
    "reward_er": "the emotion-relevant rejected answer",
    "reward_irr": "the irrelevant rejected answer",
    "reward_l": "what is rejected",
}
"""Rewards in `metrics.jsonl` by whose they are: beta times an answer's log-ratio to the reference (Eq. 2)."""


def last_rewards(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean reward of each answer over the last steps; answers that the objective has not are left out.

    Args:
        steps: As `metrics.jsonl` has them.

    Example:
        >>> last_rewards([{"reward_w": 0.0}, {"reward_w": 0.5}])
        {'reward_w': 0.5}
    """
    logged = [step for step in steps if "reward_w" in step]
    last = logged[-min(LAST_STEPS, max(1, len(logged) // 5)) :]
    return {name: sum(step[name] for step in last) / len(last) for name in ANSWERS if last and name in last[0]}


def reward_warnings(steps: Sequence[Mapping[str, Any]], rejected: str = "weighted", held: bool = False) -> list[str]:
    """A sentence for each answer whose reward ended on the wrong side of 0.

    Args:
        steps: As `metrics.jsonl` has them.
        rejected: The run's setting of that name, which decides the advice.
        held: Whether its `nll` or `anchor` is above 0, which decides it, too.

    Returns:
        Nothing for other kinds of training.

    Example:
        >>> reward_warnings([{"reward_w": 1.0, "reward_vr": -2.0, "reward_er": 0.5}])[0][:60]
        'The reward of the emotion-relevant rejected answer ends at 0'
    """
    rewards = last_rewards(steps)
    found = []
    for name, reward in rewards.items():
        whose = f"The reward of {ANSWERS[name]} ends at {reward:.2f}"
        if name == "reward_w" and reward < -NOTHING:
            found.append(
                f"{whose}, below 0: the model now finds it less likely than before training, and may write neither "
                f"answer; {'raise nll or anchor' if held else 'set nll=1 or anchor=1'}, or train for fewer steps."
            )
        elif name != "reward_w" and reward > NOTHING and (name != "reward_l" or len(rewards) == 2):
            advice = {
                "weighted": "set rejected=each, which gives every answer a loss of its own",
                "each": "raise its weight, or train longer",
            }.get(rejected, "train longer, or lower beta")
            found.append(f"{whose}, above 0: the model now finds it more likely than before training; {advice}.")
    return found
