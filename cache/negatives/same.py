"""Vectors that are the same but for rounding: copies of one clip, or clips of nothing, such as silence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAME = 1e-5
"""Vectors this near are of the same content: one clip encoded twice differs by some 1e-7."""
ROUNDING = 1e-5
"""More than float32 rounds in a projection of a vector of length 1."""
NEXT = 64
"""Neighbours in order of projection that a vector is compared with."""
BLOCK = 4096


def same_vectors(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A number per vector that all vectors within `SAME` of it share, int64 [n]; zero vectors are alike, too.

    Vectors that near have projections on any direction that near. They are put in order of one projection and compared
    with the next few; a second projection rules out nearly all of those.

    Args:
        vectors: float32 [n, D], of length 1 or 0.
    """
    count = len(vectors)
    directions = np.random.default_rng(0).normal(size=(vectors.shape[1], 2)).astype(np.float32)
    directions /= np.maximum(np.linalg.norm(directions, axis=0), 1e-6)
    projections = vectors @ directions
    order = np.argsort(projections[:, 0], kind="stable")
    parents = np.arange(count)
    for step in range(1, min(NEXT, count - 1) + 1):
        first, second = order[:-step], order[step:]
        near = (np.abs(projections[first] - projections[second]) <= SAME + ROUNDING).all(axis=1)
        near &= parents[first] != parents[second]  # not joined yet, as far as that shows
        _link(vectors, first[near], second[near], parents)
    return np.array([_root(parents, position) for position in range(count)], dtype=np.int64)


def _link(
    vectors: npt.NDArray[np.float32],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    parents: npt.NDArray[np.int64],
) -> None:
    """Join the pairs that are the same; changes `parents` in place."""
    for start in range(0, len(first), BLOCK):  # bounds the gathered vectors
        some, others = first[start : start + BLOCK], second[start : start + BLOCK]
        same = np.square(vectors[some] - vectors[others]).sum(axis=1) <= SAME**2
        for one, other in zip(some[same].tolist(), others[same].tolist(), strict=True):
            low, high = sorted((_root(parents, one), _root(parents, other)))
            parents[high] = low


def _root(parents: npt.NDArray[np.int64], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = int(parents[position])
    return position
