"""A store in a bucket: read like one on disk, through a server that fails now and then; named when it stays away."""

from itertools import count

import numpy as np
import pytest
import torch

from avem.cache import FeatureStore, mine_negatives
from avem.errors import MissingFileError, StoreError
from tests.cache.helpers import make_store


@pytest.mark.parametrize("every", [0, 4])
def test_reads_what_is_there(tmp_path, upload, bucket, every):
    same = make_store(tmp_path / "cache", clips=6)
    url, numbers = upload(tmp_path / "cache"), count(1)
    if every:
        bucket.fault = lambda method, path: None if next(numbers) % every else "refuse"
    store = FeatureStore.open(url)
    assert store.clips.equals(same.clips)
    assert torch.equal(store.video([4, 1, 1]), same.video([4, 1, 1]))
    assert np.array_equal(store.pooled("audio"), same.pooled("audio"))
    assert store.verify() == []
    assert store.damaged_files() == []


def test_opening_takes_few_requests(tmp_path, upload, bucket):
    make_store(tmp_path / "cache", clips=6)
    FeatureStore.open(upload(tmp_path / "cache"))
    assert len(bucket.requests) <= 4  # the root, the manifest, and what is in the ledger


def test_a_server_that_stays_away_is_named(tmp_path, upload, bucket):
    make_store(tmp_path / "cache", clips=6)
    url = upload(tmp_path / "cache")
    store = FeatureStore.open(url)
    bucket.fault = lambda method, path: "refuse"
    with pytest.raises(StoreError, match=r"s3://bucket/cache/zarr.json can't be read \(.*\)\.$"):
        FeatureStore.open(url)
    with pytest.raises(StoreError, match="s3://bucket/cache/video"):
        store.video([1])
    bucket.fault = None
    with pytest.raises(MissingFileError, match="no feature store at s3://bucket/nothing"):
        FeatureStore.open("s3://bucket/nothing")
    with pytest.raises(StoreError, match="is remote"):
        mine_negatives(FeatureStore.open(url))
