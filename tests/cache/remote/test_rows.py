"""Rows of a remote store: the bytes of the local one, few requests, and every kind of damage named."""

import pickle

import fsspec
import google_crc32c
import numpy as np
import pytest
import torch
import zarr

from avem.cache import Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cache.disk.arrays import stream_arrays
from avem.cache.disk.ragged import RaggedShardFile, chunk_range
from avem.cache.disk.shards import index_bytes
from avem.cache.remote import rows as remote_rows
from avem.errors import StoreError
from tests.cache.helpers import clip_records, make_store

FEATURES = "video/tiny-video/features"


@pytest.fixture(params=[0, 2**18])
def _small_shard(request, monkeypatch):
    """Shards are too large to be read whole, or are read whole."""
    monkeypatch.setattr(remote_rows, "SMALL_SHARD", request.param)


@pytest.mark.usefixtures("_small_shard")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_rows_are_those_of_the_local_store(tmp_path, upload, dtype):
    local = make_store(tmp_path / "cache", clips=11, dtype=dtype)
    store = FeatureStore.open(upload(tmp_path / "cache"))
    chance = np.random.default_rng(1)
    for _ in range(4):
        rows = chance.integers(0, 11, chance.integers(1, 12))
        assert torch.equal(store.video(rows), local.video(rows))
        assert torch.equal(store.audio(rows), local.audio(rows))
    assert store.video([]).shape == (0, 2, 3, 4)
    assert np.array_equal(store.pooled("video"), local.pooled("video"))
    assert torch.equal(pickle.loads(pickle.dumps(store)).video([10, 3]), local.video([10, 3]))


def test_requests(tmp_path, upload, bucket, monkeypatch):
    monkeypatch.setattr(remote_rows, "SMALL_SHARD", 0)
    local = make_store(tmp_path / "cache", clips=12, rows_per_shard=4)
    store = FeatureStore.open(upload(tmp_path / "cache"))
    store.spec("video")
    bucket.clear()
    assert torch.equal(store.video([0, 5, 6, 11]), local.video([0, 5, 6, 11]))
    shards = [path for _, path in bucket.requests if "/c." in path]
    assert len(shards) == 6  # three indexes, and rows 5 and 6 together
    bucket.clear()
    assert torch.equal(store.video([1, 2, 3]), local.video([1, 2, 3]))
    assert len(bucket.requests) == 1


@pytest.mark.usefixtures("_small_shard")
def test_a_shard_in_another_order_is_read_by_its_index(tmp_path, upload):
    local = make_store(tmp_path / "cache", clips=8)
    expected = local.video(range(8))
    shard = tmp_path / "cache" / FEATURES / "c.0.0.0.0"
    content, size = shard.read_bytes(), 2 * 3 * 4 * 2 + 4
    index = np.frombuffer(content[-index_bytes(4) : -4], "<u8").reshape(4, 2)[::-1].copy()
    rows = b"".join(content[slot * size : slot * size + size] for slot in range(4))
    packed = index.tobytes()
    shard.write_bytes(rows + packed + google_crc32c.value(packed).to_bytes(4, "little"))
    store = FeatureStore.open(upload(tmp_path / "cache"))
    assert torch.equal(store.video(range(8)), expected[[3, 2, 1, 0, 4, 5, 6, 7]])


def test_an_array_that_zarr_compressed_is_read_through_zarr(tmp_path, upload):
    local = make_store(tmp_path / "cache", clips=6)
    expected = local.video(range(6))
    array = zarr.open_array(tmp_path / "cache" / FEATURES, mode="r")
    values, attributes = array[:], dict(array.attrs)
    zarr.create_array(
        tmp_path / "cache" / FEATURES, data=values, chunks=(2, *values.shape[1:]), attributes=attributes, overwrite=True
    )
    store = FeatureStore.open(upload(tmp_path / "cache"))
    assert torch.equal(store.video([5, 0]), expected[[5, 0]])


@pytest.mark.usefixtures("_small_shard")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("lost", r"row 5 stands in s3://bucket/cache/.*c\.1\.0\.0\.0, which is missing, truncated or damaged"),
        ("truncated", r"row 5 stands in s3://.*c\.1\.0\.0\.0, which is missing, truncated or damaged"),
        ("index", r"row 5 stands in s3://.*c\.1\.0\.0\.0, which is missing, truncated or damaged"),
        ("row", r"row 5 does not match its checksum"),
    ],
)
def test_damage_is_named(tmp_path, upload, damage, message):
    make_store(tmp_path / "cache", clips=10)
    url = upload(tmp_path / "cache")
    files, path = fsspec.filesystem("s3"), f"{url}/{FEATURES}/c.1.0.0.0"
    content = bytearray(files.cat_file(path))
    if damage == "lost":
        files.rm_file(path)
    else:
        if damage == "truncated":
            del content[-30:]
        else:
            content[-20 if damage == "index" else 52 + 7] ^= 1
        files.pipe_file(path, bytes(content))
    store = FeatureStore.open(url)
    assert store.video([4] if damage == "row" else [3]).shape == (1, 2, 3, 4)
    with pytest.raises(StoreError, match=message):
        store.video([3, 5, 9])
    unchecked = FeatureStore.open(url, check=False)
    if damage == "row":
        assert unchecked.video([5]).shape == (1, 2, 3, 4)


def test_a_shard_that_was_replaced_meanwhile_is_read_again(tmp_path, upload):
    """As when a partial last shard gets its other rows: the index that was read before is too old."""
    make_store(tmp_path / "cache", clips=6)
    url = upload(tmp_path / "cache")
    store = FeatureStore.open(url)
    store.video([4, 5])
    local = make_store(tmp_path / "grown", clips=8)
    upload(tmp_path / "grown")
    store.refresh()
    assert torch.equal(store.video([4, 7]), local.video([4, 7]))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_rows_whose_length_differs(tmp_path, upload, bucket, dtype):
    local = ragged_store(tmp_path / "cache", dtype)
    url = upload(tmp_path / "cache")
    for cache in (None, f"1GB:{tmp_path / 'reads'}", f"1GB:{tmp_path / 'reads'}"):
        store = FeatureStore.open(url, read_cache=cache)
        stream, same = store.stream("video"), local.stream("video")
        for rows in ([3, 9, 0, 3], range(11)):
            assert all(map(torch.equal, stream.rows(rows), same.rows(rows)))
            assert all(map(torch.equal, stream.companion("deepstack", rows), same.companion("deepstack", rows)))
            assert torch.equal(stream.companion("grid", rows), same.companion("grid", rows))
            assert stream.lengths(rows).tolist() == same.lengths(rows).tolist()
    assert store.verify() == []


def ragged_spec(dtype="float16", rows_per_shard=4):
    return StreamSpec(
        "video",
        "patches",
        {"weights": "w"},
        (None, 4),
        3,
        dtype,
        rows_per_shard,
        longest=40,
        companions={"grid": Companion((3,), "int32"), "deepstack": Companion((2, None, 4), "float16")},
    )


def ragged_values(spec, rows):
    """Features, pooled vectors and companions that depend on the row alone."""
    features, pooled, grid, deepstack = [], [], [], []
    for row in rows:
        chance = np.random.default_rng([2, row])
        length = chance.integers(1, 40)
        features.append(torch.from_numpy(chance.normal(size=(length, 4)).astype(np.float32)))
        pooled.append(chance.normal(size=3).astype(np.float32))
        grid.append(chance.integers(0, 9, 3).astype(np.int32))
        deepstack.append(torch.from_numpy(chance.normal(size=(2, length, 4)).astype(np.float16)))
    return features, np.array(pooled), {"companions": {"grid": np.array(grid), "deepstack": deepstack}}


def ragged_store(path, dtype):
    spec, writer = ragged_spec(dtype), StoreWriter.open(path)
    writer.add_clips(clip_records(12), path.parent)
    stream = writer.stream(spec)
    for shard in stream.pending():
        features, pooled, more = ragged_values(spec, shard.rows)
        stream.write(shard, features, pooled, [RowDetails()] * len(shard.rows), **more)
    writer.finish()
    return FeatureStore.open(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("lost", r"row 5 stands in s3://.*features/c\.1\.0, which is missing, truncated or damaged"),
        ("index", r"row 5 stands in s3://.*features/c\.1\.0, which is missing, truncated or damaged"),
        ("row", r"row 5 does not match its checksum"),
    ],
)
def test_damage_of_rows_whose_length_differs_is_named(tmp_path, upload, damage, message):
    local = ragged_store(tmp_path / "cache", "float16")
    url = upload(tmp_path / "cache")
    files, path = fsspec.filesystem("s3"), f"{url}/video/patches/features/c.1.0"
    content = bytearray(files.cat_file(path))
    if damage == "lost":
        files.rm_file(path)
    else:
        array = stream_arrays(local.spec("video"))["features"]
        file = RaggedShardFile(tmp_path / "cache" / "video/patches/features/c.1.0", array)
        first, _ = chunk_range(array, tuple(np.array(local.stream("video").span(5)) - array.shard_tokens))
        content[-20 if damage == "index" else int(file.index[first, 0])] ^= 1
        files.pipe_file(path, bytes(content))
    stream = FeatureStore.open(url).stream("video")
    assert all(map(torch.equal, stream.rows([3, 9]), local.stream("video").rows([3, 9])))
    with pytest.raises(StoreError, match=message):
        stream.rows([3, 5, 9])
