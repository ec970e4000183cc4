"""Pairing clips so that one packed media prefix serves both: the greedy matching that negatives and packing share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from avem.seeds import draw


def match(weights: Mapping[tuple[int, int], int], seed: int) -> dict[int, int]:
    """Pair clips greedily, heaviest pair first; ties fall as the seed says.

    Args:
        weights: How much each pair of clips would save, by ordered pair (a, b) with a < b.
        seed: Breaks ties.

    Returns:
        Each matched clip's partner, both ways. The total weight is at least half of the best possible.
    """
    partner: dict[int, int] = {}
    order = sorted(weights, key=lambda pair: (-weights[pair], draw(seed, *pair, choices=1 << 62), pair))
    for a, b in order:
        if a not in partner and b not in partner:
            partner[a], partner[b] = b, a
    return partner


def pair_weights(links: Iterable[tuple[int, int]]) -> Counter[tuple[int, int]]:
    """Count links between two different clips, whichever way they point."""
    return Counter((min(a, b), max(a, b)) for a, b in links if a != b)
