"""Choosing negatives within one group: the nearest by FAISS, or at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from avem.cache.population import Population, Rows, Vectors

EXACT_UP_TO = 200_000
"""Largest pool that is searched exactly; larger ones use an inverted file."""

TARGET_RECALL = 0.95
RECALL_SAMPLE = 500
SECOND_LOOK = 512
"""Neighbours asked for where the first few are all of the anchor's own source or near-duplicates."""

BLOCK = 1024

Ranking = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating[Any]]]
"""Cosines of an anchor with a pool, [c], to a preference for each, [c]; higher is better."""


@dataclass(frozen=True, slots=True)
class Found:
    """Negatives of a group's clips."""

    positions: Rows
    """[a, k], positions in the population, -1 where none was found."""
    recall: float = 1.0
    """Share of the true nearest that the search proposes, measured on a sample; 1 for exact search."""


def nearest(people: Population, anchors: Rows, pool: Rows, k: int, exact_up_to: int = EXACT_UP_TO) -> Found:
    """The k clips of the pool with the highest cosine to each anchor, near-duplicates and same sources left out.

    Args:
        people: The population.
        anchors: Positions in it, [a].
        pool: Positions to choose from, [c].
        k: How many to choose.
        exact_up_to: Largest pool that is searched exactly.
    """
    vectors = people.vectors[pool]
    first = min(len(pool), 2 * k + 8)
    index, recall = _build_index(vectors, people.vectors[anchors], first, exact_up_to)
    chosen = np.full((len(anchors), k), -1, dtype=np.int64)
    short = np.arange(len(anchors))
    for count in (first, min(len(pool), SECOND_LOOK)):
        places = _search(index, people.vectors[anchors[short]], count)
        chosen[short] = _first_allowed(people, anchors[short], np.where(places >= 0, pool[places], -1), k)
        short = short[(chosen[short] < 0).any(axis=1)]
        if not len(short) or (count == len(pool) and recall == 1.0):
            return Found(chosen, recall)
    _from_whole_pool(people, anchors, pool, chosen, short, lambda cosines: cosines)
    return Found(chosen, recall)


def at_random(people: Population, anchors: Rows, pool: Rows, k: int, rng: np.random.Generator) -> Found:
    """K different clips of the pool for each anchor, each as likely as any other that is allowed.

    Args:
        people: The population.
        anchors: Positions in it, [a].
        pool: Positions to choose from, [c].
        k: How many to choose.
        rng: Where chance comes from.
    """
    draws = pool[rng.integers(len(pool), size=(len(anchors), 2 * k + 8))]
    repeated = np.stack([(draws[:, :i] == draws[:, i : i + 1]).any(axis=1) for i in range(draws.shape[1])], axis=1)
    chosen = _first_allowed(people, anchors, np.where(repeated, -1, draws), k)
    short = np.flatnonzero((chosen < 0).any(axis=1))
    _from_whole_pool(people, anchors, pool, chosen, short, lambda cosines: rng.random(len(cosines)))
    return Found(chosen)


def _first_allowed(people: Population, anchors: Rows, proposals: Rows, k: int) -> Rows:
    """The first k allowed proposals of each anchor.

    Args:
        people: The population.
        anchors: [a].
        proposals: [a, p], in order of preference; -1 for none.
        k: How many to choose.

    Returns:
        [a, k], -1 where the proposals do not suffice.
    """
    usable = people.allowed(anchors, proposals) & (proposals >= 0)
    order = np.argsort(~usable, axis=1, kind="stable")[:, :k]
    taken = np.where(np.take_along_axis(usable, order, axis=1), np.take_along_axis(proposals, order, axis=1), -1)
    return np.pad(taken, ((0, 0), (0, k - taken.shape[1])), constant_values=-1)


def _from_whole_pool(
    people: Population, anchors: Rows, pool: Rows, chosen: Rows, short: Rows, ranking: Ranking
) -> None:
    """Choose again, among the whole pool, for the anchors at places `short`; changes `chosen` [a, k] in place."""
    vectors = people.vectors[pool]
    for place in short:
        anchor = anchors[place]
        cosines: Vectors = vectors @ people.vectors[anchor]
        usable = (people.sources[pool] != people.sources[anchor]) & (cosines <= people.duplicate_cosine)
        preference = np.where(usable, ranking(cosines), -np.inf)
        best = np.argsort(-preference, kind="stable")[: chosen.shape[1]]
        chosen[place] = -1
        chosen[place, : len(best)] = np.where(usable[best], pool[best], -1)


def _build_index(vectors: Vectors, queries: Vectors, count: int, exact_up_to: int) -> tuple[Any, float]:
    """An index of the vectors and its recall: exact, or with as many lists probed as the target recall needs."""
    dimensions = vectors.shape[1]
    exact = faiss.IndexFlatIP(dimensions)
    exact.add(vectors)
    if len(vectors) <= exact_up_to:
        return exact, 1.0
    lists = int(4 * np.sqrt(len(vectors)))
    index: Any = faiss.index_factory(dimensions, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(vectors[:: max(1, len(vectors) // (lists * 64))]))
    index.add(vectors)
    sample = np.ascontiguousarray(queries[:: max(1, len(queries) // RECALL_SAMPLE)])
    truth, recall, probes = _search(exact, sample, count), 0.0, 8
    while recall < TARGET_RECALL and probes < lists:
        probes = min(lists, 2 * probes)
        index.nprobe = probes
        recall = _overlap(_search(index, sample, count), truth)
    return index, recall


def _search(index: Any, queries: Vectors, count: int) -> Rows:
    """Places in the index of the nearest [q, count], best first, equals in order; -1 where it found fewer."""
    found = np.full((len(queries), count), -1, dtype=np.int64)
    for block in range(0, len(queries), BLOCK):
        cosines, places = index.search(queries[block : block + BLOCK], count)
        order = np.lexsort((places, -cosines), axis=1)
        found[block : block + BLOCK] = np.take_along_axis(places, order, axis=1)
    return found


def _overlap(found: Rows, truth: Rows) -> float:
    """Mean share of each true row's entries that were found."""
    shares = [len(np.intersect1d(ours, theirs)) / len(theirs) for ours, theirs in zip(found, truth, strict=True)]
    return float(np.mean(shares))
