"""Comparing all pairs at once in int8 gives what comparing each clip with its whole pool in float32 gives."""

from dataclasses import replace

import numpy as np
import pytest

from avem.cache.negatives import exact, inverted
from avem.cache.negatives.population import Population
from avem.cache.negatives.search import FlatSearch, InvertedSearch, TiledSearch

K = 5


def make_population(kind, count=500, dim=40, seed=0):
    rng = np.random.default_rng(seed)
    emotions = np.array(["anger", "fear", "happiness", "neutral", ""])[
        rng.choice(5, count, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    ]
    emotions[7] = "disgust"  # one clip alone
    sources = rng.integers(40, size=count)
    vectors = rng.normal(size=(count, dim))
    if kind == "one direction":
        vectors += 20 * rng.normal(size=dim)
    elif kind == "large channel":
        vectors[:, 3] *= 60
    elif kind == "few dimensions":
        vectors = rng.normal(size=(count, 3)) @ rng.normal(size=(3, dim))
    elif kind == "crowded":
        sources = rng.integers(2, size=count)
        vectors = vectors[sources] + 0.1 * vectors
    elif kind == "copies":
        vectors = vectors[rng.integers(60, size=count)]
    elif kind == "zero":
        vectors[::3] = 0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    splits = np.array(["train", "test"])[(rng.random(count) < 0.2).astype(int)]
    return Population(np.arange(count), unit.astype(np.float32), emotions, splits, sources, 0.999)


KINDS = ["isotropic", "one direction", "large channel", "few dimensions", "crowded", "copies", "zero"]


def assert_same(kind, population, exactly, other, distance):
    """Both find as many, as near, and only what is allowed."""
    for _, _, anchors, pool in population.groups(distance):
        if not len(pool):
            continue
        wanted, found = (search.nearest(anchors, pool, K).positions for search in (exactly, other))
        assert np.array_equal(found >= 0, wanted >= 0)
        cosines = [
            np.einsum("nd,nkd->nk", population.vectors[anchors], population.vectors[one]) for one in (wanted, found)
        ]
        held = wanted >= 0
        np.testing.assert_allclose(cosines[1][held], cosines[0][held], atol=1e-6)
        assert np.isin(found[held], pool).all()
        assert (population.sources[anchors][:, None] != population.sources[found])[held].all()
        assert all(len(set(row) - {-1}) == sum(position >= 0 for position in row) for row in found.tolist())
        if kind == "isotropic":  # no two cosines are nearly the same
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("distance", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_find_what_every_pair_does(monkeypatch, kind, distance):
    monkeypatch.setattr(exact, "TILE", 64)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    population = make_population(kind)
    assert_same(kind, population, FlatSearch(population), TiledSearch(population, K, distance), distance)


def test_the_bound_holds_for_every_pair():
    for kind in KINDS:
        population = make_population(kind, count=200)
        order = np.random.default_rng(1).permutation(200)
        quantised = exact._Quantised(population.vectors, order)
        products = exact._products(quantised.codes, quantised.codes)
        approximate = products * quantised.scale[:, None] * quantised.scale + (
            quantised.shift[:, None] + quantised.shift
        )
        vectors = population.vectors[order].astype(np.float64)
        assert (np.abs(approximate - vectors @ vectors.T) <= quantised.slack[:, None]).all()


def test_products_are_exact_without_integer_matrix_products(monkeypatch):
    import torch

    codes = torch.randint(-127, 128, (50, 768), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    wanted = codes.long() @ codes.long().T
    assert np.array_equal(exact._products(codes, codes), wanted)
    monkeypatch.delattr("torch._int_mm")
    assert np.array_equal(exact._products(codes, codes), wanted)


def test_the_inverted_file_finds_what_its_sample_promises():
    population = make_population("isotropic", count=3000, dim=8)
    flat, index = FlatSearch(population), InvertedSearch(population, K, 1)
    assert index.recall >= 0.95
    shares = []
    for _, _, anchors, pool in population.groups(1):
        wanted, found = (search.nearest(anchors, pool, K).positions for search in (flat, index))
        assert np.isin(found, pool).all()
        assert (population.sources[anchors][:, None] != population.sources[found]).all()
        shares += [np.isin(ours, theirs).mean() for ours, theirs in zip(found, wanted, strict=True)]
    assert np.mean(shares) >= 0.93


@pytest.mark.parametrize("distance", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_inverted_file_asked_in_full_is_exact(monkeypatch, kind, distance):
    monkeypatch.setattr(inverted, "_probes", lambda lists, truth: (lists.count, 1.0))
    monkeypatch.setattr(inverted, "SEARCHED", 3000)
    monkeypatch.setattr(inverted, "BLOCK", 64)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    population = make_population(kind, count=300)
    assert_same(
        kind, population, TiledSearch(population, K, distance), InvertedSearch(population, K, distance), distance
    )


def test_clips_whose_lists_hold_too_few_are_compared_with_all(monkeypatch):
    monkeypatch.setattr(inverted, "_probes", lambda lists, truth: (1, 1.0))
    population = make_population("crowded", count=300)  # a list holds one source alone, so nothing that is allowed
    exactly, index = TiledSearch(population, K, 1), InvertedSearch(population, K, 1)
    for _, _, anchors, pool in population.groups(1):
        wanted, found = (search.nearest(anchors, pool, K).positions for search in (exactly, index))
        assert np.array_equal(found >= 0, wanted >= 0)


def test_one_source_or_one_emotion_has_no_negatives_and_is_not_searched_in_full(monkeypatch):
    asked = []
    original = inverted._search_lists

    def noted(comparison, lists, ordered, queries, starts, probes):
        asked.append((len(queries), probes))
        original(comparison, lists, ordered, queries, starts, probes)

    monkeypatch.setattr(inverted, "_search_lists", noted)
    population = make_population("isotropic", count=300)
    alone = replace(population, sources=np.zeros(300, dtype=np.int64))
    assert (inverted.inverted_negatives(alone, K, 1)[0] == -1).all()
    assert [probes for _, probes in asked] == [1]
    same = replace(population, emotions=np.full(300, "anger"))
    assert (inverted.inverted_negatives(same, K, 1)[0] == -1).all()
    assert len(asked) == 1


def test_a_pair_that_is_compared_twice_is_entered_once():
    cosines, positions = np.full(3, exact.NOTHING, dtype=np.float32), np.full(3, -1)
    for cosine, position in ((0.5, 4), (0.5, 2), (0.7, 9), (0.5, 4), (0.5, 2), (0.7, 9), (0.5, 3)):
        exact._insert(cosines, positions, np.float32(cosine), position)
    assert positions.tolist() == [9, 2, 3]
