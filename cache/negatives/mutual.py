"""Mutual negatives: clips paired as each other's negative, so that one packed media prefix serves both."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from avem.cache.negatives.file import Mined
from avem.cache.negatives.mine import negatives_attributes, write_negatives
from avem.cache.negatives.population import (
    MODALITIES,
    Labels,
    Population,
    Rows,
    label_distance,
    load_population,
    replaced_streams,
)
from avem.cache.negatives.staleness import DIGEST, labels_digest
from avem.cache.store import FeatureStore
from avem.records import Modality

RECIPE = "mutual"


def match_mutual(
    store: FeatureStore,
    recipe: str = "hard",
    modality: str = "audiovisual",
    *,
    duplicate_cosine: float | None = None,
    exclude: Collection[str] = (),
    labels: Labels | None = None,
) -> npt.NDArray[np.int32]:
    """Pair clips as each other's negative and keep the pairs as recipe `mutual`.

    Pairs come from the mined negatives, closest ranks first; clips that are left are paired with the nearest left
    clip of another emotion, the commonest emotion first. The same store gives the same pairs.

    Args:
        store: A store on this machine with mined negatives.
        recipe: Which negatives to pair from.
        modality: `audio`, `video` or `audiovisual`.
        duplicate_cosine: As in `mine_negatives`.
        exclude: As in `mine_negatives`.
        labels: As in `mine_negatives`.

    Returns:
        int32 [clips, 1], each clip's partner or -1; the partner of a partner is the clip itself.

    Raises:
        StoreError: The negatives are not mined, or the store can't be written.
        SettingError: There is no such modality.
    """
    modality = Modality.parse(modality).table
    negatives, attributes = _pairs(store, recipe, modality, duplicate_cosine, exclude, labels)
    write_negatives(store, RECIPE, {modality: (negatives, attributes)})
    return negatives


def _pairs(
    store: FeatureStore,
    recipe: str,
    modality: str,
    duplicate_cosine: float | None,
    exclude: Collection[str],
    labels: Labels | None,
    streams: Sequence[str] = (),
) -> Mined:
    """Pairs of one modality and what made them."""
    same_source = bool(negatives_attributes(store, recipe, modality).get("same_source", False))
    population = load_population(store, modality, duplicate_cosine, exclude, labels, streams, same_source=same_source)
    partners = np.full(len(store), -1, dtype=np.int64)
    _pair_along_edges(store.negatives(recipe, modality), partners)
    _pair_leftovers(population, partners)
    negatives = partners[:, None].astype(np.int32)
    labelled = population.rows[population.emotions != ""]
    unpaired = int((partners[labelled] < 0).sum())
    attributes = {
        "recipe": RECIPE,
        "modality": modality,
        "from": recipe,
        "k": 1,
        "duplicate_cosine": population.duplicate_cosine,
        "excluded": len(set(exclude)),
        "same_source": same_source,
        "clips": len(labelled),
        "complete": len(labelled) - unpaired,
        "unpaired": unpaired,
        DIGEST: labels_digest(store.manifest),
    }
    return negatives, attributes


def match_all(
    store: FeatureStore,
    recipe: str = "hard",
    *,
    duplicate_cosine: float | None = None,
    exclude: Collection[str] = (),
    labels: Labels | None = None,
    streams: Sequence[str] = (),
) -> dict[str, npt.NDArray[np.int32]]:
    """`match_mutual` for every modality the store has; modality to pairs."""
    mined = {
        modality: _pairs(store, recipe, modality, duplicate_cosine, exclude, labels, streams)
        for modality in MODALITIES
        if replaced_streams(store, modality, streams)
    }
    write_negatives(store, RECIPE, mined)
    return {modality: pairs for modality, (pairs, _) in mined.items()}


def _pair_along_edges(negatives: npt.NDArray[np.int32], partners: Rows) -> None:
    """Pair clips of which at least one has the other as negative; changes `partners` [clips] in place.

    An edge's cost is the sum of both ranks, where a clip that does not have the other counts as rank K.
    """
    clips, k = negatives.shape
    anchors, ranks = np.nonzero(negatives >= 0)
    others = negatives[anchors, ranks].astype(np.int64)
    low, high = np.minimum(anchors, others), np.maximum(anchors, others)
    edges, inverse = np.unique(low * clips + high, return_inverse=True)
    cost = np.full(len(edges), 2 * k)
    np.add.at(cost, inverse, ranks - k)
    for edge in np.lexsort((edges, cost)):
        first, second = divmod(int(edges[edge]), clips)
        if partners[first] < 0 and partners[second] < 0:
            partners[first], partners[second] = second, first


def _pair_leftovers(population: Population, partners: Rows) -> None:
    """Pair the labelled clips that are left, split by split; changes `partners` in place."""
    free = (partners[population.rows] < 0) & (population.emotions != "")
    for split in np.unique(population.splits[free]).tolist():
        left = np.flatnonzero(free & (population.splits == split))
        labels, counts = np.unique(population.emotions[left], return_counts=True)
        common = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        order = sorted(left.tolist(), key=lambda index: (-common[str(population.emotions[index])], index))
        for index in order:
            if free[index]:
                partner = _nearest_partner(population, index, left[free[left]])
                if partner >= 0:
                    partners[population.rows[index]] = population.rows[partner]
                    partners[population.rows[partner]] = population.rows[index]
                    free[[index, partner]] = False


def _nearest_partner(population: Population, index: int, others: Rows) -> int:
    """The nearest clip of another emotion that may be this one's negative, or -1."""
    emotion = str(population.emotions[index])
    far = [label for label in np.unique(population.emotions[others]).tolist() if label_distance(emotion, label) > 0]
    others = others[np.isin(population.emotions[others], far)]
    if not len(others):
        return -1
    allowed = population.allowed(np.array([index]), others)[0]
    cosines = np.where(allowed, population.vectors[others] @ population.vectors[index], -np.inf)
    best = int(np.argmax(cosines))
    return int(others[best]) if allowed[best] else -1
