"""Mined negatives are written, read and checked block by block; arrays from before blocks are read as before."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from avem.cache import FeatureStore
from avem.cache.disk.layout import read_metadata, write_metadata
from avem.cache.negatives import file
from avem.cache.negatives.file import BLOCK_CHECKS, negative_blocks, read_negatives, save_negatives
from avem.errors import StoreError
from tests.cache.helpers import make_store


@pytest.fixture
def mined(tmp_path, monkeypatch):
    """A store with negatives in blocks of three rows."""
    monkeypatch.setattr(file, "ROWS_PER_CHUNK", 3)
    store = make_store(tmp_path / "cache", clips=8)
    rows = np.random.default_rng(0).integers(-1, 8, size=(8, 2), dtype=np.int32)
    save_negatives(tmp_path / "cache", "hard", {"video": (rows, {"recipe": "hard"})})
    return store.location, tmp_path / "cache/negatives/hard/video", rows


def test_blocks_make_up_the_whole(mined):
    location, folder, rows = mined
    found = list(negative_blocks(location, "hard", "video"))
    assert [start for start, _ in found] == [0, 3, 6]
    assert np.array_equal(np.concatenate([block for _, block in found]), rows)
    assert np.array_equal(read_negatives(location, "hard", "video"), rows)
    assert np.array_equal(zarr.open_array(folder)[:], rows)
    assert len(read_metadata(folder)["attributes"][BLOCK_CHECKS]) == 3


def test_damage_is_named_by_its_block_and_the_blocks_before_are_sound(mined):
    location, folder, rows = mined
    array = zarr.open_array(folder, mode="r+")
    array[4, 1] = 7 - rows[4, 1]
    blocks = negative_blocks(location, "hard", "video")
    assert np.array_equal(next(blocks)[1], rows[:3])
    with pytest.raises(StoreError, match=r"do not match their checksum in rows 3 to 5; .*avem cache negatives"):
        next(blocks)
    assert [item.path for item in FeatureStore.open(location.url).damaged_files()] == ["negatives/hard/video"]


def test_older_arrays_have_one_checksum(mined):
    location, folder, rows = mined
    metadata = read_metadata(folder)
    del metadata["attributes"][BLOCK_CHECKS]
    write_metadata(folder, metadata)
    assert np.array_equal(read_negatives(location, "hard", "video"), rows)
    array = zarr.open_array(folder, mode="r+")
    array[7, 0] = 7 - rows[7, 0]
    with pytest.raises(StoreError, match="do not match their checksum; "):
        read_negatives(location, "hard", "video")
