"""Comparing all pairs at once in int8 gives what comparing each clip with its whole pool in float32 gives."""

import numpy as np
import pytest

from avem.cache import exact
from avem.cache.population import Population
from avem.cache.search import FlatSearch, InvertedFile, TiledSearch

K = 5


def people(kind, count=500, dim=40, seed=0):
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


@pytest.mark.parametrize("distance", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_find_what_every_pair_does(monkeypatch, kind, distance):
    monkeypatch.setattr(exact, "TILE", 64)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    population = people(kind)
    flat, tiled = FlatSearch(population), TiledSearch(population, K, distance)
    for _, _, anchors, pool in population.groups(distance):
        if not len(pool):
            continue
        wanted, found = (search.nearest(anchors, pool, K).positions for search in (flat, tiled))
        assert np.array_equal(found >= 0, wanted >= 0)
        cosines = [np.einsum("nd,nkd->nk", population.vectors[anchors], population.vectors[one]) for one in
                   (wanted, found)]  # fmt: skip
        held = wanted >= 0
        np.testing.assert_allclose(cosines[1][held], cosines[0][held], atol=1e-6)
        assert np.isin(found[held], pool).all()
        assert (population.sources[anchors][:, None] != population.sources[found])[held].all()
        assert all(len(set(row) - {-1}) == sum(place >= 0 for place in row) for row in found.tolist())
        if kind == "isotropic":
            assert np.array_equal(found, wanted)


def test_the_bound_holds_for_every_pair():
    for kind in KINDS:
        population = people(kind, count=200)
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


def test_the_inverted_file_looks_at_other_emotions_alone():
    population = people("isotropic", count=1500, dim=8)
    flat, index = FlatSearch(population), InvertedFile(population, K, 1)
    assert index.recall >= 0.95
    for _, _, anchors, pool in population.groups(1):
        wanted, found = (search.nearest(anchors, pool, K).positions for search in (flat, index))
        assert np.isin(found[found >= 0], pool).all()
        assert (found == wanted).mean() > 0.8
