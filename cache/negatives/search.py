"""Choosing negatives within one group: the nearest, or at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

from avem.cache.negatives.population import Population, Rows, Vectors

FLAT_UP_TO = 10_000
"""Largest population whose pools are searched by FAISS pair by pair; compiling anything better takes longer."""

EXACT_UP_TO = 200_000
"""Largest population that is searched exactly; larger ones use an inverted file."""

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


class Search(Protocol):
    """Finds the k clips of a pool with the highest cosine to each anchor, no near-duplicates and no same sources."""

    def nearest(self, anchors: Rows, pool: Rows, k: int) -> Found:
        """The k nearest allowed clips.

        Args:
            anchors: Positions in the population, [a], of one group.
            pool: Positions to choose from, [c]: the clips of that group's split whose emotions are far enough.
            k: How many to choose.
        """
        ...


def prepare_search(population: Population, k: int, min_distance: int, exact_up_to: int = EXACT_UP_TO) -> Search:
    """The search that suits a population's size.

    Args:
        population: The population.
        k: How many neighbours to find.
        min_distance: Least emotion distance between a clip and its pool, at least 1.
        exact_up_to: Largest population that is searched exactly.
    """
    if len(population.rows) > exact_up_to:
        return InvertedSearch(population, k, min_distance)
    return FlatSearch(population) if len(population.rows) <= FLAT_UP_TO else TiledSearch(population, k, min_distance)


class FlatSearch:
    """FAISS compares each anchor with its whole pool."""

    def __init__(self, population: Population) -> None:
        self._population = population

    def nearest(self, anchors: Rows, pool: Rows, k: int) -> Found:
        """See `Search`."""
        index = faiss.IndexFlatIP(self._population.vectors.shape[1])
        index.add(self._population.vectors[pool])

        def propose(some: Rows, count: int) -> Rows:
            positions = _ordered(*index.search(self._population.vectors[some], count))
            return np.where(positions >= 0, pool[positions], -1)

        return Found(_choose_proposed(self._population, anchors, pool, k, propose))


class TiledSearch:
    """All pairs at once, see `avem.cache.negatives.exact`."""

    def __init__(self, population: Population, k: int, min_distance: int) -> None:
        from avem.cache.negatives.exact import (
            exact_negatives,  # compiling takes seconds that small stores need not wait for
        )

        self._positions = exact_negatives(population, k, min_distance)

    def nearest(self, anchors: Rows, pool: Rows, k: int) -> Found:
        """See `Search`; the pool is the one that the minimum distance gives."""
        return Found(self._positions[anchors, :k])


class InvertedSearch:
    """The pairs that an inverted file brings together, see `avem.cache.negatives.inverted`."""

    def __init__(self, population: Population, k: int, min_distance: int) -> None:
        from avem.cache.negatives.inverted import inverted_negatives

        self._positions, self.recall = inverted_negatives(population, k, min_distance)

    def nearest(self, anchors: Rows, pool: Rows, k: int) -> Found:
        """See `Search`; the pool is the one that the minimum distance gives."""
        return Found(self._positions[anchors, :k], self.recall)


def _choose_proposed(
    population: Population, anchors: Rows, pool: Rows, k: int, propose: Callable[[Rows, int], Rows]
) -> Rows:
    """The first k allowed clips [a, k] of what an index proposes, asked for more where the first few do not suffice.

    Args:
        population: The population.
        anchors: [a].
        pool: [c].
        k: How many.
        propose: Gives positions [s, count] for some anchors [s], best first, -1 for none; nothing better is left out.
    """
    first = min(len(pool), 2 * k + 8)
    chosen = np.full((len(anchors), k), -1, dtype=np.int64)
    short = np.arange(len(anchors))
    for count in (first, min(len(pool), SECOND_LOOK)):
        for start in range(0, len(short), BLOCK):
            some = short[start : start + BLOCK]
            chosen[some] = _first_allowed(population, anchors[some], propose(anchors[some], count), k)
        short = short[(chosen[short] < 0).any(axis=1)]
        if not len(short) or count == len(pool):
            return chosen
    _from_whole_pool(population, anchors, pool, chosen, short, lambda cosines: cosines)
    return chosen


def at_random(population: Population, anchors: Rows, pool: Rows, k: int, rng: np.random.Generator) -> Found:
    """K different clips of the pool for each anchor, each as likely as any other that is allowed.

    Args:
        population: The population.
        anchors: Positions in it, [a].
        pool: Positions to choose from, [c].
        k: How many to choose.
        rng: Where chance comes from.
    """
    draws = pool[rng.integers(len(pool), size=(len(anchors), 2 * k + 8))]
    repeated = np.stack([(draws[:, :i] == draws[:, i : i + 1]).any(axis=1) for i in range(draws.shape[1])], axis=1)
    chosen = _first_allowed(population, anchors, np.where(repeated, -1, draws), k)
    short = np.flatnonzero((chosen < 0).any(axis=1))
    _from_whole_pool(population, anchors, pool, chosen, short, lambda cosines: rng.random(len(cosines)))
    return Found(chosen)


def _first_allowed(population: Population, anchors: Rows, proposals: Rows, k: int) -> Rows:
    """The first k allowed proposals of each anchor.

    Args:
        population: The population.
        anchors: [a].
        proposals: [a, p], in order of preference; -1 for none.
        k: How many to choose.

    Returns:
        [a, k], -1 where the proposals do not suffice.
    """
    usable = population.allowed(anchors, proposals) & (proposals >= 0)
    order = np.argsort(~usable, axis=1, kind="stable")[:, :k]
    taken = np.where(np.take_along_axis(usable, order, axis=1), np.take_along_axis(proposals, order, axis=1), -1)
    return np.pad(taken, ((0, 0), (0, k - taken.shape[1])), constant_values=-1)


def _from_whole_pool(
    population: Population, anchors: Rows, pool: Rows, chosen: Rows, short: Rows, ranking: Ranking
) -> None:
    """Choose again, among the whole pool, for the anchors at positions `short`; changes `chosen` [a, k] in place."""
    vectors = population.vectors[pool]
    for index in short:
        anchor = anchors[index]
        cosines: Vectors = vectors @ population.vectors[anchor]
        usable = (population.sources[pool] != population.sources[anchor]) & (
            population.same[pool] != population.same[anchor]
        )
        usable &= cosines <= population.duplicate_cosine
        preference = np.where(usable, ranking(cosines), -np.inf)
        best = np.argsort(-preference, kind="stable")[: chosen.shape[1]]
        chosen[index] = -1
        chosen[index, : len(best)] = np.where(usable[best], pool[best], -1)


def _ordered(cosines: npt.NDArray[np.float32], positions: Rows) -> Rows:
    """What FAISS found [q, count], best first, the lower position first among equals."""
    return np.take_along_axis(positions, np.lexsort((positions, -cosines), axis=1), axis=1)
