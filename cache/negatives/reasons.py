"""Why clips have no negative, with counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avem.cache.negatives.population import MODALITIES, Population, Rows
from avem.cache.store import FeatureStore

SAME_SOURCE = "have such clips only from their own speaker or source"


@dataclass(slots=True)
class _Counts:
    """Labelled clips by what keeps them from having a negative."""

    alone: int = 0
    """There is no clip of another emotion in the split."""
    related: int = 0
    """All such clips are of the clip's own source."""
    alike: int = 0
    """All that are left are near-duplicates."""

    def sentences(self, min_distance: int) -> dict[str, int]:
        needed = "other clip" if min_distance == 0 else "clip of another emotion"
        if min_distance > 1:
            needed = "clip of an emotion of the required valence"
        return {
            f"have no {needed} in their split": self.alone,
            SAME_SOURCE: self.related,
            "have only near-duplicates": self.alike,
        }


def why_none(store: FeatureStore, population: Population, modality: str, min_distance: int, excluded: int) -> str:
    """Count the clips of a store by what keeps them from having a negative.

    Args:
        store: The store.
        population: Its clips that have the modality's streams; none of them has a negative.
        modality: `audio`, `video` or `audiovisual`.
        min_distance: Least emotion distance that was required; 0 requires none.
        excluded: Clips that were left out, such as a benchmark's.
    """
    counts = _count(population, min_distance, np.arange(len(population.rows)))
    unlabelled = int(np.count_nonzero(population.emotions == "")) if min_distance > 0 else 0
    return (
        _listed(
            {
                f"have no {' and '.join(MODALITIES[modality])} features": len(store) - len(population.rows) - excluded,
                "are left out": excluded,
                "have no label": unlabelled,
                **counts.sentences(min_distance),
            }
        )
        or "there are no clips"
    )


def why_lacking(population: Population, min_distance: int, lacking: Rows) -> str:
    """Count the labelled clips without a negative by what keeps them from having one.

    Args:
        population: Clips of which some have negatives.
        min_distance: As in `why_none`.
        lacking: Positions in the population of those without.
    """
    return _listed(_count(population, min_distance, lacking).sentences(min_distance))


def _count(population: Population, min_distance: int, lacking: Rows) -> _Counts:
    counts = _Counts()
    for _, _, anchors, pool in population.groups(min_distance):
        found, owned = np.unique(population.sources[pool], return_counts=True)
        own = dict(zip(found.tolist(), owned.tolist(), strict=True))
        for anchor in np.intersect1d(anchors, lacking).tolist():
            strangers = len(pool) - own.get(int(population.sources[anchor]), 0)
            counts.alone += not len(pool)
            counts.related += bool(len(pool) and not strangers)
            counts.alike += bool(strangers)
    return counts


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
