"""Making a set even: as many yes as no, and emotions distributed as in the source (sections 3.4 and B.3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Label = TypeVar("Label", bound=Hashable)


def even_verdicts(
    items: Sequence[Item],
    verdict: Callable[[Item], bool | None],
    group: Callable[[Item], str],
    seed: int,
    kind: Callable[[Item], str] = lambda item: "",
) -> list[Item]:
    """Keep equally many yes and no in every group, and among each of them equally many of every kind.

    Args:
        items: What is there.
        verdict: Whether an item's right answer is yes; None for items that have no such answer and are all kept.
        group: Items are evened within these, such as the task.
        seed: Of the choice.
        kind: What the no's, or yes's, of a group are of, such as the subtask.

    Returns:
        The kept items in their order.
    """
    rng = np.random.default_rng(seed)
    kept = {number for number, item in enumerate(items) if verdict(item) is None}
    sides: dict[str, dict[bool, dict[str, list[int]]]] = defaultdict(
        lambda: {True: defaultdict(list), False: defaultdict(list)}
    )
    for number, item in enumerate(items):
        if (yes := verdict(item)) is not None:
            sides[group(item)][yes][kind(item)].append(number)
    for side in sides.values():
        size = min(_reachable(kinds) for kinds in side.values())
        for kinds in side.values():
            largest_first = sorted(kinds.values(), key=len, reverse=True)
            for numbers, share in zip(largest_first, _shares(size, len(kinds)), strict=True):
                kept.update(rng.permutation(numbers)[:share].tolist())
    return [items[number] for number in sorted(kept)]


def _reachable(kinds: Mapping[str, Sequence[int]]) -> int:
    """Most items with equally many of every kind, one more or less."""
    if not kinds:
        return 0
    least = min(map(len, kinds.values()))
    return sum(min(len(numbers), least + 1) for numbers in kinds.values()) if len(kinds) > 1 else least


def _shares(size: int, kinds: int) -> list[int]:
    return [size // kinds + (number < size % kinds) for number in range(kinds)] if kinds else []


def emotions_as_in_source(
    labels: Mapping[str, Label], source: Sequence[Label], tolerance: float, seed: int
) -> set[str]:
    """Keep as many clips as still have the source's distribution of labels.

    Args:
        labels: Clip id to its label, of the clips that are left.
        source: Labels of all the source's clips.
        tolerance: Total variation distance to the source's distribution that is accepted, from 0 to 1.
        seed: Of the choice.

    Returns:
        The clips kept.
    """
    if not labels:
        return set()
    shares = {label: count / len(source) for label, count in Counter(source).items()}
    by_label: dict[Label, list[str]] = defaultdict(list)
    for clip, label in sorted(labels.items()):
        by_label[label].append(clip)
    have = {label: len(by_label.get(label, [])) for label in shares}
    quota = _largest_quota(have, shares, tolerance, len(labels)) or have
    rng = np.random.default_rng(seed)
    picked = {label: rng.permutation(clips)[: quota.get(label, 0)].tolist() for label, clips in by_label.items()}
    return {clip for clips in picked.values() for clip in clips}


def _largest_quota(
    have: Mapping[Label, int], shares: Mapping[Label, float], tolerance: float, most: int
) -> dict[Label, int] | None:
    """Most clips of each label that keep the distribution; None if no number does."""
    for total in range(most, 0, -1):
        quota = {label: min(have[label], round(share * total)) for label, share in shares.items()}
        counted = sum(quota.values())
        if counted and _distance(quota, shares, counted) <= tolerance:
            return quota
    return None


def _distance(counts: Mapping[Label, int], shares: Mapping[Label, float], total: int) -> float:
    return 0.5 * sum(abs(counts[label] / total - share) for label, share in shares.items())
