"""The bootstrap behind every interval: rows drawn with replacement, and percentiles of what they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 95.0
"""Percent of the resamples inside an interval."""


@njit(cache=True)
def resample_sums(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Sum rows drawn with replacement, many times over.

    Args:
        values: float64 [clusters, K].
        resamples: How often to draw as many rows as there are.
        generator: Where the draws come from.

    Returns:
        float64 [resamples, K].
    """
    clusters, width = values.shape
    sums = np.zeros((resamples, width))
    for resample in range(resamples):
        for _ in range(clusters):
            row = generator.integers(0, clusters)
            for column in range(width):
                sums[resample, column] += values[row, column]
    return sums


def resample_counts(counts: Floats, resamples: int, seed: int) -> Floats:
    """Sums of float64 [clusters, ...] over clusters drawn with replacement: float64 [resamples, ...]."""
    flat = np.ascontiguousarray(counts.reshape(len(counts), -1))
    return np.asarray(resample_sums(flat, resamples, np.random.default_rng(seed))).reshape(resamples, *counts.shape[1:])


def resample_weights(clusters: int, resamples: int, seed: int) -> Floats:
    """How often each cluster is drawn, float64 [resamples, clusters].

    The same bootstrap as a matrix: `weights @ values` sums any number of arrays over the same draws.
    """
    draws = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    return draws.astype(np.float64)


def resample_items(clusters: Sequence[Any] | NDArray[Any], resamples: int, seed: int) -> Floats:
    """How often each item is drawn where whole clusters are drawn, float64 [resamples, items].

    Args:
        clusters: The cluster of each item, such as its clip.
        resamples: How often to draw as many clusters as there are.
        seed: The same seed gives the same draws for the same clusters, whatever their items are.
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    return resample_weights(len(names), resamples, seed)[:, cluster]


def percentiles(drawn: Floats) -> list[float]:
    """The interval `[low, high]` that holds `LEVEL` percent of float64 [resamples]; nan is left out."""
    tail = (100 - LEVEL) / 2
    return [float(edge) for edge in np.nanpercentile(drawn, [tail, 100 - tail])]


def mean_intervals(values: Floats, clusters: Sequence[str], resamples: int, seed: int) -> list[tuple[float, float]]:
    """Intervals of means, whole clusters resampled: items of one clip stand or fall together.

    Args:
        values: float64 [items, K].
        clusters: The cluster of each item, such as its clip.
        resamples: How often to draw as many clusters as there are.
        seed: The same seed gives the same numbers.

    Returns:
        `(low, high)` of the mean of each of the K columns.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    sums = np.zeros((int(cluster.max()) + 1, values.shape[1] + 1))
    np.add.at(sums, cluster, np.column_stack([values, np.ones(len(values))]))  # the last column counts items
    drawn = resample_counts(sums, resamples, seed)
    means = drawn[:, :-1] / drawn[:, -1:]
    return [(low, high) for low, high in map(percentiles, means.T)]
