"""Mining negatives: avem against brute-force numpy, and the inverted file against the exact search.

    python -m avem.tools.project.benchmarks.negatives
    python -m avem.tools.project.benchmarks.negatives --clips 1000000 --falling --sample 128 --inverted --threads 2

Vectors are drawn like pooled features: each speaker has a place of its own, clips scatter around it, all share a
direction. `--isotropic` draws them without any of that, the hardest case for every index. `--falling` makes the
variance of channel i of n fall as 1 / i, as those of networks' features nearly do; without it all are alike.
"""

from __future__ import annotations

import resource
import time
from typing import Annotated, Any

import faiss
import numpy as np
import numpy.typing as npt
import torch
import typer

from avem.cache.negatives.population import Population, Rows
from avem.cache.negatives.search import InvertedSearch, TiledSearch
from avem.records import Emotion
from avem.tools.project.benchmarks.measure import show

CLIPS_A_SPEAKER = 30
BLOCK = 16_384


def draw_population(clips: int, dim: int, *, isotropic: bool, falling: bool = False, seed: int = 0) -> Population:
    """Unit vectors with speakers and the seven emotions, all of one split; drawn in blocks, so that no copy is made."""
    rng = np.random.default_rng(seed)
    speakers = rng.integers(clips // CLIPS_A_SPEAKER + 1, size=clips)
    spread = np.ones(dim, dtype=np.float32)
    if falling:
        spread /= np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    vectors = np.empty((clips, dim), dtype=np.float32)
    places = spread * rng.standard_normal((clips // CLIPS_A_SPEAKER + 1, dim), dtype=np.float32)
    shared = 2 * spread * rng.standard_normal(dim, dtype=np.float32)
    for start in range(0, clips, BLOCK):
        part = vectors[start : start + BLOCK]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= spread
        if not isotropic:
            part += places[speakers[start : start + BLOCK]] + shared
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    emotions = np.array([str(emotion) for emotion in Emotion])[rng.integers(len(Emotion), size=clips)]
    return Population(np.arange(clips), vectors, emotions, np.full(clips, "train"), speakers, 0.999)


def brute_force(population: Population, queries: Rows, k: int, block: int = 1024) -> Rows:
    """The plain computation: the whole matrix in blocks, what is not allowed struck out, then the k largest."""
    found = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        cosines = population.vectors[part] @ population.vectors.T
        cosines[population.emotions[part][:, None] == population.emotions] = -np.inf
        cosines[population.sources[part][:, None] == population.sources] = -np.inf
        cosines[cosines > population.duplicate_cosine] = -np.inf
        largest = np.argpartition(-cosines, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosines, largest, axis=1), axis=1)
        found[start : start + block] = np.take_along_axis(largest, order, axis=1)
    return found


def recall_of(population: Population, queries: Rows, found: Rows, truth: Rows) -> float:
    """Recall at k: the share of the k found that are as near as the last of the true ones, rounding allowed."""
    cosines = [np.einsum("nd,nkd->nk", population.vectors[queries], population.vectors[one]) for one in (found, truth)]
    return float(((found >= 0) & (cosines[0] >= cosines[1].min(axis=1, keepdims=True) - 1e-6)).mean())


def differences(population: Population, queries: Rows, found: Rows, truth: Rows) -> tuple[float, float]:
    """The share of the k found that are the true clips, and how much nearer, in float64, a missed one was at most."""
    same, most = 0, 0.0
    for query, ours, theirs in zip(queries, found, truth, strict=True):
        extra, missed = np.setdiff1d(ours, theirs), np.setdiff1d(theirs, ours)
        same += len(theirs) - len(missed)
        if len(missed):
            vector = population.vectors[query].astype(np.float64)
            most = max(
                most, float((population.vectors[missed] @ vector).max() - (population.vectors[extra] @ vector).min())
            )
    return same / truth.size, most


def mine(population: Population, search: Any, k: int) -> Rows:
    """Negatives of every clip, as mining asks for them."""
    positions = np.full((len(population.rows), k), -1, dtype=np.int64)
    for _, _, anchors, pool in population.groups(1):
        positions[anchors] = search.nearest(anchors, pool, k).positions
    return positions


def main(
    clips: Annotated[int, typer.Option(help="Vectors.")] = 100_000,
    dim: Annotated[int, typer.Option(help="Their size.")] = 768,
    k: Annotated[int, typer.Option("--k", help="Negatives a clip.")] = 10,
    sample: Annotated[
        int, typer.Option(help="Clips that numpy answers for; its time is scaled to all of them.")
    ] = 2048,
    isotropic: Annotated[bool, typer.Option("--isotropic", help="Vectors without any structure.")] = False,
    falling: Annotated[bool, typer.Option("--falling", help="Channels' variances fall as 1 / i.")] = False,
    inverted: Annotated[
        bool, typer.Option("--inverted", help="Use the inverted file instead of exact search.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of every side.")] = 1,
) -> None:
    """Time both sides on the same vectors and compare what they find."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    small = draw_population(4000, dim, isotropic=isotropic)
    mine(small, TiledSearch(small, k, 1), k)  # compiles
    population = draw_population(clips, dim, isotropic=isotropic, falling=falling)
    queries: npt.NDArray[np.int64] = np.sort(np.random.default_rng(1).choice(clips, sample, replace=False))
    half = sample // 2
    begin = time.perf_counter()
    truth = [brute_force(population, queries[:half], k)]  # half before and half after: the machine's pace may change
    middle = time.perf_counter()
    processor_s = time.process_time()
    search = InvertedSearch(population, k, 1) if inverted else TiledSearch(population, k, 1)
    found = mine(population, search, k)
    end, processor_s = time.perf_counter(), time.process_time() - processor_s
    truth.append(brute_force(population, queries[half:], k))
    numpy_s = (time.perf_counter() - end + middle - begin) * clips / sample
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    name = "inverted file" if inverted else "exact"
    kind = ("isotropic" if isotropic else "by speaker") + (", falling" if falling else "")
    recall = recall_of(population, queries, found[queries], np.concatenate(truth))
    same, nearer = differences(population, queries, found[queries], np.concatenate(truth))
    show(
        f"{clips:,} x {dim}, {threads} threads, K = {k}, {kind}; numpy from {sample} clips",
        (
            "search",
            "seconds",
            "of the processor",
            f"recall at {k}",
            "the same clips",
            "a missed one nearer by",
            "numpy, s",
            "times faster",
            "peak GB",
        ),
        [
            (
                name,
                f"{end - middle:.1f}",
                f"{processor_s:.1f}",
                f"{recall:.4f}",
                f"{same:.5f}",
                f"{nearer:.1e}",
                f"{numpy_s:.0f}",
                f"{numpy_s / (end - middle):.1f}",
                f"{peak_gb:.1f}",
            )
        ],
    )


if __name__ == "__main__":
    typer.run(main)
