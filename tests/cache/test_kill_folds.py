"""Writers that fold a manifest of several parts, killed at any instruction, lose only the shards in flight."""

import random

import pytest

from avem.cache.disk import folding
from avem.cache.manifest import edit, ids, parts, view
from tests.cache.test_kill import committed_rows, died, start_writer, suicide_after


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Parts of 5 rows, each with an index, and a fold at every second record; forked writers inherit it."""
    monkeypatch.setattr(parts, "ROWS_PER_PART", 5)
    monkeypatch.setattr(folding, "MOST_RECORDS", 1)
    for module in (ids, edit, view):
        monkeypatch.setattr(module, "INDEX_FROM", 2)


def test_kills_at_every_stage_of_a_fold(tmp_path):
    chance, deaths = random.Random(7), 0
    for run in range(3):
        path, before = tmp_path / f"{run}" / "cache", 0
        for _ in range(8):
            deaths += died(start_writer(path, 12, suicide_after(chance.randrange(13000))))
            now = committed_rows(path)
            assert now >= before
            before = now
        assert not died(start_writer(path, 12))
        assert committed_rows(path) == 36
        assert len(list(path.glob("clips*.parquet"))) == 3
        assert not list(path.rglob("*.tmp"))
    assert deaths > 8


def test_several_folding_writers_killed_at_random_lines(tmp_path):
    path, chance, before, deaths = tmp_path / "cache", random.Random(3), 0, 0
    for _ in range(6):
        children = [start_writer(path, 24, suicide_after(chance.randrange(15_000))) for _ in range(3)]
        deaths += sum([died(child) for child in children])
        now = committed_rows(path)
        assert now >= before
        before = now
    assert deaths > 5
    assert not any([died(child) for child in [start_writer(path, 24) for _ in range(3)]])
    assert committed_rows(path) == 72
    assert not list(path.rglob("*.tmp"))
