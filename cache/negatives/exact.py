"""Exact nearest allowed clips of another emotion, many times faster than comparing every pair in float32.

Every pair of clips whose emotions are far apart is compared once, for both, in int8: vectors are centred, turned at
random (so that no channel is much larger than another) and quantised with a scale each. The error of such a cosine is
bounded by Cauchy and Schwarz from the vectors' quantisation residuals, so a pair can be skipped only where the
bound proves that it is among neither clip's nearest; every other pair's cosine is computed in float32. The result is
that of the plain computation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from avem.cache.negatives.population import Population, Rows, Vectors
from avem.progress import stage

TILE = 2048
"""Clips on each side of a tile, the unit of integer matrix products."""
CHUNK = 64
"""Pairs that are looked at together: mostly none of them matters."""
LEVELS = 127
SLACK = 2e-5
"""Covers what float32 rounds in both ways of computing a cosine."""
NOTHING = -4.0
"""Stands for the cosine of a negative that is not found yet; below every cosine."""

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Groups:
    """Which clips may be each other's negatives as far as split and emotion go."""

    of: npt.NDArray[np.int32]
    """[n], each clip's group."""
    far: npt.NDArray[np.bool_]
    """[groups, groups], whether their clips may."""

    def take(self, order: Rows) -> Groups:
        """The groups of the clips in another order, int64 [n]."""
        return Groups(self.of[order], self.far)


class _Quantised:
    """Vectors in int8, in a given order, and what bounds the error of their products.

    The cosine of i and j is `scale[i] * scale[j] * (codes[i] . codes[j]) + shift[i] + shift[j]`, at most
    `slack[i]` off whatever j is.
    """

    def __init__(self, vectors: Vectors, order: Rows) -> None:
        count, dimensions = len(order), vectors.shape[1]
        self.codes = torch.empty((count, dimensions), dtype=torch.int8)
        self.scale, self.shift, residual, length, kept = (np.empty(count, dtype=np.float32) for _ in range(5))
        centre = torch.from_numpy(vectors).mean(0)
        noise = torch.randn((dimensions, dimensions), generator=torch.Generator().manual_seed(0))
        turn = torch.linalg.qr(noise).Q
        for start in range(0, count, TILE):
            part = slice(start, start + TILE)
            rows = torch.from_numpy(vectors[order[part]])
            turned = (rows - centre) @ turn
            scale = turned.abs().amax(1).clamp_min(1e-30) / LEVELS
            codes = torch.round(turned / scale[:, None])
            self.codes[part] = codes.to(torch.int8)
            self.scale[part] = scale
            self.shift[part] = rows @ centre - centre.square().sum() / 2
            codes *= scale[:, None]
            residual[part] = torch.linalg.vector_norm(turned - codes, dim=1)
            length[part] = torch.linalg.vector_norm(turned, dim=1)
            kept[part] = torch.linalg.vector_norm(codes, dim=1)
        # |x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|
        self.slack = residual * length.max(initial=0) + kept * residual.max(initial=0) + np.float32(SLACK)


def exact_negatives(population: Population, k: int, min_distance: int) -> Rows:
    """The k allowed clips with the highest cosine to each clip, among the clips of far enough emotions of its split.

    Args:
        population: The population.
        k: How many.
        min_distance: Least emotion distance, at least 1.

    Returns:
        int64 [n, k], positions in the population, best first, -1 where there are fewer.
    """
    ordered, groups, tiles, pairs = _plan(population, min_distance)
    with Comparison(population, ordered, groups, k) as comparison, stage("compare", len(pairs), "tiles") as progress:
        for first, second in pairs:
            comparison.compare(np.arange(*tiles[first]), *tiles[second])
            progress.advance()
    return comparison.positions


class Comparison:
    """The best of each clip so far, and comparing some clips with some others for both.

    Args:
        population: The population.
        ordered: Positions of n clips in it, int64 [n], in the order in which they will be looked up.
        groups: Their groups.
        k: How many negatives to keep of each.
    """

    positions: Rows
    """[population, k], best first, -1 where there are fewer."""

    def __init__(self, population: Population, ordered: Rows, groups: Groups, k: int) -> None:
        self._quantised = quantised = _Quantised(population.vectors, ordered)
        self.positions = np.full((len(population.rows), k), -1, dtype=np.int64)
        self._state = (
            groups.of,
            groups.far,
            quantised.scale,
            quantised.shift,
            quantised.slack,
            np.full(len(ordered), NOTHING, dtype=np.float32),
            ordered,
            population.vectors,
            population.sources,
            population.same,
            np.float32(population.duplicate_cosine),
            np.full((len(population.rows), k), NOTHING, dtype=np.float32),
            self.positions,
        )
        self._threads = max(1, min(torch.get_num_threads(), 8))
        self._pool = ThreadPoolExecutor(self._threads)

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def compare(self, rows: Rows, left: int, right: int) -> None:
        """Compare clips with others and enter what is found for both.

        Args:
            rows: Positions of clips in the order, int64 [a].
            left: First position of the others.
            right: The position after their last; either none of `rows` is among the others, or all are.
        """
        codes = self._quantised.codes
        for start in range(0, len(rows), TILE):
            part = rows[start : start + TILE]
            gathered = torch.from_numpy(codes.numpy().take(part, axis=0))  # torch's own indexing is 30 times slower
            self._scan(_products(gathered, codes[left:right]), part, left)

    def _scan(self, products: npt.NDArray[np.int32], rows: Rows, left: int) -> None:
        """Scan a tile [a, b] in as many threads as do not meet at any clip."""
        overlap = len(rows) and left <= rows[0] < left + products.shape[1]
        threads = 1 if overlap else self._threads
        down, across = (np.linspace(0, end, threads + 1).astype(int) for end in products.shape)
        for turn in range(threads):  # no two threads are at the same row or the same column
            done = [
                self._pool.submit(_scan_tile, products[r0:r1, c0:c1], rows[r0:r1], left + c0, *self._state)
                for (r0, r1), (c0, c1) in zip(
                    pairwise(down.tolist()),
                    np.roll(list(pairwise(across.tolist())), turn, axis=0).tolist(),
                    strict=True,
                )
            ]
            for part in done:
                part.result()


def _plan(
    population: Population, min_distance: int
) -> tuple[Rows, Groups, list[tuple[int, int]], list[tuple[int, int]]]:
    """The clips ordered by group, their groups, tiles of one group each, and the pairs of tiles with negatives."""
    ordered, groups = grouped(population, min_distance)
    tiles: list[tuple[int, int]] = []
    of_group: list[list[int]] = []
    ends = np.cumsum(np.bincount(groups.of, minlength=len(groups.far))).tolist()
    for start, end in pairwise([0, *ends]):
        cuts = [*range(start, end, TILE), end]
        of_group.append(list(range(len(tiles), len(tiles) + len(cuts) - 1)))
        tiles += pairwise(cuts)
    far = np.argwhere(np.triu(groups.far)).tolist()
    return ordered, groups, tiles, [(i, j) for a, b in far for i in of_group[a] for j in of_group[b]]


def grouped(population: Population, min_distance: int) -> tuple[Rows, Groups]:
    """The clips that have a group, int64 [n] positions in the population ordered by group, and their groups."""
    found = list(population.groups(min_distance))
    far = np.zeros((len(found), len(found)), dtype=np.bool_)
    for a, (_, _, _, pool) in enumerate(found):
        for b in range(a + 1, len(found)):
            far[a, b] = far[b, a] = len(pool) and np.isin(found[b][2][:1], pool).any()
    numbers = [np.full(len(anchors), number, dtype=np.int32) for number, (_, _, anchors, _) in enumerate(found)]
    if not found:
        return np.zeros(0, dtype=np.int64), Groups(np.zeros(0, dtype=np.int32), far)
    return np.concatenate([anchors for _, _, anchors, _ in found]), Groups(np.concatenate(numbers), far)


def _products(first: torch.Tensor, second: torch.Tensor) -> npt.NDArray[Any]:
    """Dot products of int8 vectors, exact, [a, b]."""
    multiply = getattr(torch, "_int_mm", None)
    if multiply is None:  # float32 holds these sums exactly as well
        return np.asarray(torch.mm(first.float(), second.float().t()).to(torch.int32))
    return np.asarray(multiply(first, second.t()))


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _cosine(first: Floats, second: Floats) -> np.float32:
    total = np.float32(0.0)
    for channel in range(first.shape[0]):
        total += first[channel] * second[channel]
    return total


@njit(nogil=True, cache=True)
def _insert(cosines: Floats, positions: Rows, cosine: np.float32, position: int) -> None:
    """Insert a clip among the best of another: best first, the lower position first among equals."""
    rank = cosines.shape[0]
    while rank > 0 and (cosine > cosines[rank - 1] or (cosine == cosines[rank - 1] and position < positions[rank - 1])):
        rank -= 1
    if rank > 0 and cosine == cosines[rank - 1] and position == positions[rank - 1]:
        return  # compared before
    for later in range(cosines.shape[0] - 1, rank, -1):
        cosines[later], positions[later] = cosines[later - 1], positions[later - 1]
    if rank < cosines.shape[0]:
        cosines[rank], positions[rank] = cosine, position


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _scan_tile(
    products: npt.NDArray[np.int32],
    rows: Rows,
    left: int,
    groups: npt.NDArray[np.int32],
    far: npt.NDArray[np.bool_],
    scale: Floats,
    shift: Floats,
    slack: Floats,
    limits: Floats,
    ordered: Rows,
    vectors: Vectors,
    sources: Rows,
    same: Rows,
    duplicate_cosine: np.float32,
    cosines: Floats,
    positions: Rows,
) -> None:
    """Enter one tile's pairs among the best of both sides; see `_Quantised` for the arrays.

    Args:
        products: [a, b], of the clips at `rows` and those from `left` in the order of `ordered`.
        rows: [a], positions of the rows.
        left: Position of the first column.
        groups: [n].
        far: [groups, groups].
        scale: [n].
        shift: [n].
        slack: [n].
        limits: [n], what a pair's approximate cosine has to reach to matter to a clip.
        ordered: [n], positions in the population.
        vectors: [population, D].
        sources: [population].
        same: [population], of the same vector.
        duplicate_cosine: Largest cosine of a negative.
        cosines: [population, k], of the best so far.
        positions: [population, k], the best so far.
    """
    for row in range(products.shape[0]):
        i = rows[row]
        for start in range(0, products.shape[1], CHUNK):
            part = products[row, start : start + CHUNK]
            j = left + start
            here = slice(j, j + len(part))
            if _any_matters(part, scale[i], shift[i], limits[i], scale[here], shift[here], limits[here]):
                _enter_pairs(
                    part,
                    i,
                    j,
                    groups,
                    far,
                    scale,
                    shift,
                    slack,
                    limits,
                    ordered,
                    vectors,
                    sources,
                    same,
                    duplicate_cosine,
                    cosines,
                    positions,
                )


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _any_matters(
    products: npt.NDArray[np.int32],
    own_scale: float,
    own_shift: float,
    own_limit: float,
    scale: Floats,
    shift: Floats,
    limits: Floats,
) -> bool:
    """Whether any pair of a clip with a few others may matter to either; without branches, so that it is vectorised."""
    hits = np.int32(0)
    for column in range(len(products)):
        cosine = np.float32(products[column]) * (own_scale * scale[column]) + (own_shift + shift[column])
        hits += np.int32(1) if (cosine >= own_limit) | (cosine >= limits[column]) else np.int32(0)
    return bool(hits > 0)


@njit(nogil=True, cache=True)
def _enter_pairs(
    products: npt.NDArray[np.int32],
    i: int,
    left: int,
    groups: npt.NDArray[np.int32],
    far: npt.NDArray[np.bool_],
    scale: Floats,
    shift: Floats,
    slack: Floats,
    limits: Floats,
    ordered: Rows,
    vectors: Vectors,
    sources: Rows,
    same: Rows,
    duplicate_cosine: np.float32,
    cosines: Floats,
    positions: Rows,
) -> None:
    """Compute the cosines of a clip with those of a few others that may matter to either, and enter them for both."""
    anchor, last = ordered[i], cosines.shape[1] - 1
    for column in range(len(products)):
        j = left + column
        cosine = np.float32(products[column]) * (scale[i] * scale[j]) + (shift[i] + shift[j])
        other = ordered[j]
        if cosine < limits[i] and cosine < limits[j]:
            continue
        if sources[anchor] == sources[other] or same[anchor] == same[other] or not far[groups[i], groups[j]]:
            continue
        exact = _cosine(vectors[anchor], vectors[other])
        if exact > duplicate_cosine:
            continue
        _insert(cosines[anchor], positions[anchor], exact, other)
        _insert(cosines[other], positions[other], exact, anchor)
        if positions[anchor, last] >= 0:
            limits[i] = cosines[anchor, last] - slack[i]
        if positions[other, last] >= 0:
            limits[j] = cosines[other, last] - slack[j]
