"""Mined negatives in numbers: how near they are, which emotions stand for which, and whether anything leaks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avem.cache.negatives.mine import negatives_attributes
from avem.cache.negatives.population import MODALITIES, Labels, Population, Rows, load_population
from avem.cache.negatives.sources import NEARLY_ALL, OneSource, one_source_negatives
from avem.cache.store import FeatureStore
from avem.errors import SettingError

PAIRS = 20_000
"""Pairs of clips drawn at random for comparison."""
EXAMPLES = 12
ROUNDING = 1e-5
"""Cosines this near to the limit of near-duplicates are within float32's rounding of it."""


ONE_SOURCE = f"from the one other source that gives {NEARLY_ALL:.0%} or more of the negatives of their clip's source"
"""The leak that `one_source_negatives` finds."""


@dataclass(frozen=True, slots=True)
class Example:
    """A clip and one of its negatives, by their rows."""

    row: int
    negative: int
    cosine: float
    note: str


@dataclass(frozen=True, slots=True)
class NegativesSummary:
    """One recipe in one modality."""

    recipe: str
    modality: str
    attributes: dict[str, Any]
    """What the array says of itself."""
    emotions: tuple[str, ...]
    matrix: npt.NDArray[np.int64]
    """[emotions, emotions]: how many negatives of clips of the row's emotion are of the column's."""
    cosines: npt.NDArray[np.float32]
    """[negatives], of each with its clip."""
    by_rank: tuple[float, ...]
    """Mean cosine of the first negative, the second, and so on."""
    random_cosines: npt.NDArray[np.float32]
    """Of pairs drawn at random from one split."""
    leaks: dict[str, int]
    """What should not be, and how often it is; zeros are kept, so that a reader sees what was looked for."""
    one_source: tuple[OneSource, ...]
    """Sources whose clips have nearly all negatives from one other source; counted among the leaks."""
    lacking: int
    """Labelled clips with the streams but without any negative."""
    examples: tuple[Example, ...]


def summarise_negatives(
    store: FeatureStore,
    recipe: str,
    modality: str,
    *,
    benchmark: Collection[int] = (),
    seed: int = 0,
    labels: Labels | None = None,
) -> NegativesSummary:
    """Gather what there is to know about mined negatives.

    Args:
        store: The store.
        recipe: Such as `hard`.
        modality: `audio`, `video` or `audiovisual`.
        benchmark: Rows of a benchmark's clips, none of which should be a negative.
        seed: Of the pairs drawn for comparison.
        labels: As in `mine_negatives`; those that they were mined by.

    Raises:
        SettingError: There is no such modality.
        StoreError: The negatives are not mined, or a shard is damaged.
    """
    if modality not in MODALITIES:
        raise SettingError(f"Negatives are mined for {', '.join(MODALITIES)}, not {modality!r}.")
    attributes = negatives_attributes(store, recipe, modality)
    population = load_population(
        store,
        modality,
        attributes.get("duplicate_cosine"),
        labels=labels,
        streams=attributes.get("streams") or (),
        same_source=bool(attributes.get("same_source", False)),
    )
    index_of = np.full(len(store), -1, dtype=np.int64)
    index_of[population.rows] = np.arange(len(population.rows))
    mined = store.negatives(recipe, modality)
    negatives = mined[population.rows]
    table = np.where(negatives >= 0, index_of[negatives], -1)
    one_source = one_source_negatives(store, mined, modality, labels)
    anchors, ranks = np.nonzero(table >= 0)
    others = table[anchors, ranks]
    cosines = _pair_cosines(population, anchors, others)
    emotions = tuple(sorted(set(population.emotions.tolist())))
    codes = np.searchsorted(np.array(emotions), population.emotions) if emotions else np.zeros(0, dtype=np.int64)
    matrix = np.zeros((len(emotions), len(emotions)), dtype=np.int64)
    np.add.at(matrix, (codes[anchors], codes[others]), 1)
    return NegativesSummary(
        recipe=recipe,
        modality=modality,
        attributes=attributes,
        emotions=tuple(label or "no label" for label in emotions),
        matrix=matrix,
        cosines=cosines,
        by_rank=tuple(float(cosines[ranks == rank].mean()) for rank in np.unique(ranks)),
        random_cosines=_random_cosines(population, seed),
        leaks=_leaks(
            population,
            anchors,
            others,
            cosines,
            benchmark,
            same_emotion_leaks=recipe != "random-clip",
            same_source=bool(attributes.get("same_source", False)),
        )
        | {ONE_SOURCE: sum(one.found for one in one_source)},
        one_source=one_source,
        lacking=int(((table < 0).all(axis=1) & (population.emotions != "")).sum()),
        examples=_examples(population, anchors[ranks == 0], others[ranks == 0], cosines[ranks == 0]),
    )


def _pair_cosines(population: Population, first: Rows, second: Rows) -> npt.NDArray[np.float32]:
    cosines = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), 4096):  # bounds the gathered vectors
        part = slice(start, start + 4096)
        cosines[part] = np.einsum("nd,nd->n", population.vectors[first[part]], population.vectors[second[part]])
    return cosines


def _random_cosines(population: Population, seed: int) -> npt.NDArray[np.float32]:
    if len(population.rows) < 2:
        return np.zeros(0, dtype=np.float32)
    first, second = np.random.default_rng(seed).integers(len(population.rows), size=(2, PAIRS))
    kept = (first != second) & (population.splits[first] == population.splits[second])
    return _pair_cosines(population, first[kept], second[kept])


def _leaks(
    population: Population,
    anchors: Rows,
    others: Rows,
    cosines: npt.NDArray[np.float32],
    benchmark: Collection[int],
    *,
    same_emotion_leaks: bool,
    same_source: bool,
) -> dict[str, int]:
    marked = np.isin(population.rows, np.fromiter(benchmark, dtype=np.int64))
    found = {
        "the clip itself": anchors == others,
        "the same emotion": same_emotion_leaks & (population.emotions[anchors] == population.emotions[others]),
        "the same speaker or source": population.sources[anchors] == population.sources[others],
        "another split": population.splits[anchors] != population.splits[others],
        "a near-duplicate": cosines > population.duplicate_cosine + ROUNDING,
    }
    if same_source:  # asked for; what is left is a window of the same clip
        found["of the same clip"] = found.pop("the same speaker or source")
    if len(benchmark):
        found["a clip of the benchmark"] = marked[others]
    return {name: int(np.count_nonzero(where)) for name, where in found.items()}


def _examples(
    population: Population, anchors: Rows, others: Rows, cosines: npt.NDArray[np.float32]
) -> tuple[Example, ...]:
    """The nearest pairs, the farthest, and some between, no clip in two of them."""
    order: Sequence[int] = np.argsort(-cosines, kind="stable").tolist()
    third = EXAMPLES // 3
    middle = order[len(order) // 2 - len(order) // 8 :]
    chosen: list[Example] = []
    used: set[int] = set()
    for note, indices in (("nearest", order), ("typical", middle), ("farthest", order[::-1])):
        taken = 0
        for index in indices:
            pair = {int(population.rows[anchors[index]]), int(population.rows[others[index]])}
            if taken < third and not pair & used:
                used |= pair
                taken += 1
                row, negative = int(population.rows[anchors[index]]), int(population.rows[others[index]])
                chosen.append(Example(row, negative, float(cosines[index]), note))
    return tuple(chosen)
