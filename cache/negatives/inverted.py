"""Nearest allowed clips of another emotion in stores too large for comparing all pairs: an inverted file.

Clips are put into lists by the nearest of the centroids that FAISS finds by k-means. A pair is compared where the list
of either clip is among the first few of the other's, and enters the best of both. The lists are gone through one by
one, each against all the clips that search it, in the integer matrix products of
`avem.cache.negatives.exact`; searching clip by
clip, as FAISS does, is bound by memory at the sizes of pooled vectors. What a pair's cosine is, and whether it matters,
is exact; only a pair that is not compared can be missed.

How many lists a clip searches follows from a sample of clips whose true nearest are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import faiss
import numpy as np
import numpy.typing as npt
import torch

from avem.cache.negatives.exact import NOTHING, Comparison, grouped
from avem.cache.negatives.population import Population, Rows, Vectors
from avem.progress import stage

TARGET_RECALL = 0.95
MARGIN = 0.01
"""What the sample has to show above the target, twice its standard error."""

RECALL_SAMPLE = 500
LISTS = 1.0
"""Lists, by the root of the clips: more of them cost more to find than they spare."""
TRAINING_CLIPS_A_LIST = 40
TRAINING_ROUNDS = 8
POOL_BLOCK = 65_536
"""Clips that the sample is compared with at once."""
BLOCK = 8192
"""Clips whose distances to all centroids are in memory at once."""
SEARCHED = 2**24
"""Entries of the table of lists to search that are in memory at once: clips times lists."""


@dataclass(frozen=True, slots=True)
class _Truth:
    """The true nearest allowed clips of a sample, one pair an entry."""

    anchors: Rows
    others: Rows
    """Positions in the population, [pairs] both."""


class _Lists:
    """Centroids, and the lists of any clips in the order of their nearness."""

    def __init__(self, vectors: Vectors, clips: Rows) -> None:
        self._vectors, self.count = vectors, max(1, int(LISTS * np.sqrt(len(clips))))
        training = clips[:: max(1, len(clips) // (self.count * TRAINING_CLIPS_A_LIST))]
        kmeans = faiss.Clustering(vectors.shape[1], self.count)
        kmeans.niter, kmeans.min_points_per_centroid = TRAINING_ROUNDS, 1
        kmeans.max_points_per_centroid = 2 * TRAINING_CLIPS_A_LIST
        kmeans.train(np.ascontiguousarray(vectors[training]), faiss.IndexFlatL2(vectors.shape[1]))
        centroids = faiss.vector_to_array(kmeans.centroids).reshape(self.count, -1)
        self._centroids = torch.from_numpy(centroids).t().contiguous()
        self._half_squares = self._centroids.square().sum(0) / 2

    def nearness(self, clips: Rows) -> torch.Tensor:
        """Larger for a nearer centroid, float32 [clips, lists]."""
        return torch.addmm(-self._half_squares, torch.from_numpy(self._vectors[clips]), self._centroids)

    def own(self, clips: Rows) -> Rows:
        """The list that each clip is in, int64 [clips]."""
        parts = [self.nearness(clips[start : start + BLOCK]).argmax(1) for start in range(0, len(clips), BLOCK)]
        return torch.cat(parts).numpy()

    def first(self, clips: Rows, count: int) -> npt.NDArray[np.uint16]:
        """The first lists of each clip, uint16 [clips, count], in any order."""
        found = np.empty((len(clips), count), dtype=np.uint16)
        for start in range(0, len(clips), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = self.nearness(clips[part]).topk(count, sorted=False).indices
        return found

    def rank(self, clips: Rows, lists: Rows) -> Rows:
        """How many lists come before the given one of each clip, int64 [clips]."""
        ranks = []
        for start in range(0, len(clips), BLOCK):
            nearness = self.nearness(clips[start : start + BLOCK])
            wanted = nearness.gather(1, torch.from_numpy(lists[start : start + BLOCK, None]))
            ranks.append((nearness > wanted).sum(1))
        return torch.cat(ranks).numpy()


def inverted_negatives(population: Population, k: int, min_distance: int) -> tuple[Rows, float]:
    """The k allowed clips with the highest cosine to each clip, nearly all of them the true ones.

    A clip for which fewer are found among its lists is compared with every other.

    Args:
        population: The population.
        k: How many.
        min_distance: Least emotion distance, at least 1.

    Returns:
        int64 [n, k], positions in the population, best first, -1 where there are fewer; and the share of the true
        nearest that a sample finds.
    """
    clips, groups = grouped(population, min_distance)
    if not groups.far.any():
        return np.full((len(population.rows), k), -1, dtype=np.int64), 1.0
    lists = _Lists(population.vectors, clips)
    probes, recall = _probes(lists, _truth(population, k, min_distance))
    own = lists.own(clips)
    order = np.argsort(own, kind="stable")
    ordered, starts = clips[order], np.searchsorted(own[order], np.arange(lists.count + 1))
    every_clip = np.arange(len(ordered))
    with Comparison(population, ordered, groups.take(order), k) as comparison:
        for left, right in pairwise(starts.tolist()):
            comparison.compare(every_clip[left:right], left, right)
        _search_lists(comparison, lists, ordered, every_clip, starts, probes)
        found = (comparison.positions >= 0).sum(axis=1)
        short = np.flatnonzero((found < np.minimum(k, _possible(population, min_distance)))[ordered])
        if len(short) and probes < lists.count:
            _search_lists(comparison, lists, ordered, short, starts, lists.count)
    return comparison.positions, recall


def _search_lists(
    comparison: Comparison, lists: _Lists, ordered: Rows, queries: Rows, starts: Rows, probes: int
) -> None:
    """Compare clips with the members of their first lists, without those of their own, list by list.

    Args:
        comparison: Of `ordered`.
        lists: The lists.
        ordered: Positions of the clips, [n], ordered by list.
        queries: Positions in it of the clips whose neighbours are wanted, [a], ascending.
        starts: Where each list begins in it, [lists + 1].
        probes: How many lists each clip searches.
    """
    size = max(1, SEARCHED // probes)
    with stage("compare", len(queries), "clips") as progress:
        for begin in range(0, len(queries), size):
            part = queries[begin : begin + size]
            searched = lists.first(ordered[part], probes).reshape(-1)
            by_list = np.argsort(searched, kind="stable")  # of 16 bits, so by radix
            ends = np.searchsorted(searched[by_list], np.arange(lists.count + 1))
            for number in np.flatnonzero(np.diff(ends)).tolist():
                rows = part[by_list[ends[number] : ends[number + 1]] // probes]
                left, right = int(starts[number]), int(starts[number + 1])
                comparison.compare(rows[(rows < left) | (rows >= right)], left, right)
            progress.advance(len(part))


def _probes(lists: _Lists, truth: _Truth) -> tuple[int, float]:
    """How many lists each clip has to search, and the share of the true pairs that are then compared."""
    if not len(truth.anchors):
        return 1, 1.0
    here, there = lists.own(truth.anchors), lists.own(truth.others)
    ranks = np.sort(np.minimum(lists.rank(truth.anchors, there), lists.rank(truth.others, here)))
    probes = 1 + int(ranks[min(len(ranks), int(np.ceil((TARGET_RECALL + MARGIN) * len(ranks)))) - 1])
    return probes, float((ranks < probes).mean())


def _truth(population: Population, k: int, min_distance: int) -> _Truth:
    """The k true nearest allowed clips of every `step`-th clip of each group."""
    step = max(1, len(population.rows) // RECALL_SAMPLE)
    anchors, others = [], []
    for _, _, group, pool in population.groups(min_distance):
        if len(pool):
            sample = group[::step]
            found = _true_nearest(population, sample, pool, k)
            anchors.append(np.repeat(sample, found.shape[1])[found.reshape(-1) >= 0])
            others.append(found[found >= 0])
    return _Truth(np.concatenate(anchors), np.concatenate(others))


def _true_nearest(population: Population, anchors: Rows, pool: Rows, count: int) -> Rows:
    """The pool's true nearest allowed clips to each anchor, [a, at most count], in any order, -1 for none."""
    best: Rows = np.zeros((len(anchors), 0), dtype=np.int64)
    cosines: Vectors = np.zeros((len(anchors), 0), dtype=np.float32)
    for start in range(0, len(pool), POOL_BLOCK):
        part = pool[start : start + POOL_BLOCK]
        new = population.vectors[anchors] @ population.vectors[part].T
        struck = (new > population.duplicate_cosine) | (
            population.sources[anchors][:, None] == population.sources[part]
        )
        struck |= population.same[anchors][:, None] == population.same[part]
        new[struck] = NOTHING
        best = np.concatenate([best, np.where(struck, -1, part)], axis=1)
        cosines = np.concatenate([cosines, new], axis=1)
        keep = np.argpartition(-cosines, min(count, cosines.shape[1]) - 1, axis=1)[:, :count]
        best, cosines = np.take_along_axis(best, keep, axis=1), np.take_along_axis(cosines, keep, axis=1)
    return best


def _possible(population: Population, min_distance: int) -> Rows:
    """How many clips of far enough emotions and of other sources there are for each clip, [n]."""
    possible = np.zeros(len(population.rows), dtype=np.int64)
    for _, _, anchors, pool in population.groups(min_distance):
        of_source = np.bincount(population.sources[pool], minlength=int(population.sources.max()) + 1)
        possible[anchors] = len(pool) - of_source[population.sources[anchors]]
    return possible
