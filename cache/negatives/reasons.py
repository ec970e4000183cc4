"""Why no clip has a negative, in one sentence with counts."""

from __future__ import annotations

import numpy as np

from avem.cache.negatives.population import MODALITIES, Population
from avem.cache.store import FeatureStore


def why_none(store: FeatureStore, population: Population, modality: str, min_distance: int, excluded: int) -> str:
    """Count the clips of a store by what keeps them from having a negative.

    Args:
        store: The store.
        population: Its clips that have the modality's streams; none of them has a negative.
        modality: `audio`, `video` or `audiovisual`.
        min_distance: Least emotion distance that was required; 0 requires none.
        excluded: Clips that were left out, such as a benchmark's.
    """
    alone = related = alike = 0
    for _, _, anchors, pool in population.groups(min_distance):
        others = population.sources[pool]
        for anchor in anchors.tolist():
            strangers = np.count_nonzero(others != population.sources[anchor])
            alone += not len(pool)
            related += bool(len(pool) and not strangers)
            alike += bool(strangers)
    needed = "other clip" if min_distance == 0 else "clip of another emotion"
    if min_distance > 1:
        needed = "clip of an emotion of the required valence"
    unlabelled = int(np.count_nonzero(population.emotions == "")) if min_distance > 0 else 0
    counts = {
        f"have no {' and '.join(MODALITIES[modality])} features": len(store) - len(population.rows) - excluded,
        "are left out": excluded,
        "have no label": unlabelled,
        f"have no {needed} in their split": alone,
        "have such clips only from their own source": related,
        "have only near-duplicates": alike,
    }
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "there are no clips"
