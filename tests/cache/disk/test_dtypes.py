"""bfloat16 and int8 features: what comes back, how far off it is, and what is refused."""

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avem.cache import FeatureStore, RowDetails, StoreWriter
from avem.cache.disk.encode import _all_finite
from avem.cache.disk.quantise import dequantise_tokens, quantise_tokens
from tests.cache.helpers import clip_records, make_store, row_values, video_spec


def quantised(values):
    levels, scale = np.empty(values.shape, np.int8), np.empty(len(values), np.float32)
    error = quantise_tokens(values, np.abs(values).max(axis=1), levels, scale)
    bits = np.empty(values.shape, np.uint16)
    dequantise_tokens(levels, scale, bits)
    return levels, scale, error, bits.view(np.float16)


def test_bfloat16_comes_back_bit_for_bit(tmp_path):
    store = make_store(tmp_path / "cache", clips=5, dtype="bfloat16")
    expected = torch.from_numpy(row_values(video_spec(), [4, 1])[0]).to(torch.bfloat16)
    assert torch.equal(store.video([4, 1]), expected)
    array = zarr.open(str(tmp_path / "cache"), mode="r")["video/tiny-video/features"]
    assert array.dtype == np.uint16
    assert array.attrs["avem"]["dtype"] == "bfloat16"
    assert np.array_equal(array[[4, 1]], expected.view(torch.uint16).numpy())


def test_int8_is_within_half_a_step_per_token(tmp_path):
    store = make_store(tmp_path / "cache", clips=6, dtype="int8")
    rows = [5, 0, 3, 3]
    values = row_values(video_spec(), rows)[0]
    found = store.video(rows)
    assert found.dtype == torch.float16
    step = np.abs(values).max(axis=-1, keepdims=True) / 127
    assert (np.abs(found.numpy() - values) <= step / 2 + 2e-3).all()
    group = zarr.open(str(tmp_path / "cache"), mode="r")["video/tiny-video"]
    by_hand = group["features"][:].astype(np.float32) * group["scale"][:][..., None]
    assert np.array_equal(by_hand[rows].astype(np.float16), found.numpy())
    whole = row_values(video_spec(), range(6))[0]
    error = np.sqrt(np.square(by_hand - whole).sum(axis=(1, 2, 3)) / np.square(whole).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(group["error"][:], error, rtol=1e-4)
    assert store.verify() == []


def test_a_flipped_byte_in_a_scale_is_found(tmp_path):
    make_store(tmp_path / "cache", clips=4, dtype="int8")
    shard = tmp_path / "cache/video/tiny-video/scale/c.0.0.0"
    data = bytearray(shard.read_bytes())
    data[2 * (24 + 4)] ^= 1
    shard.write_bytes(data)
    (damage,) = FeatureStore.open(tmp_path / "cache").verify()
    assert (damage, damage.problem) == (2, "video/scale does not match its checksum")


@settings(max_examples=50)
@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-65504, 65504, width=32)))
def test_quantisation_of_any_values(values):
    levels, scale, error, back = quantised(values)
    largest = np.abs(values).max(axis=1)
    np.testing.assert_array_equal(scale, largest / np.float32(127))
    bound = largest[:, None].astype(np.float64) * (0.5 / 127 + 1e-6 + 2**-11) + 1e-7
    assert (np.abs(back.astype(np.float64) - values) <= bound).all()
    assert (np.abs(levels.astype(int)) <= 127).all()
    assert 0 <= error <= 1
    assert np.array_equal(back, (levels * scale[:, None]).astype(np.float16))


def test_quantisation_by_hand():
    levels, scale, error, back = quantised(np.array([[127.0, -63.4, 0.5, 1.5], [0, 0, 0, 0]], dtype=np.float32))
    assert levels.tolist() == [[127, -63, 0, 2], [0, 0, 0, 0]]
    assert scale.tolist() == [1.0, 0.0]
    assert back.tolist() == [[127.0, -63.0, 0.0, 2.0], [0.0] * 4]
    squares = 127.0**2 + 63.4**2 + 0.5**2 + 1.5**2
    assert error == pytest.approx(np.sqrt((0.4**2 + 0.5**2 + 0.5**2) / squares), rel=1e-5)


@pytest.mark.parametrize(("dtype", "fits"), [("bfloat16", True), ("int8", False)])
def test_values_too_large_for_the_type_they_are_read_as_fail(tmp_path, dtype, fits):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(2), root=tmp_path)
    stream = writer.stream(video_spec(dtype))
    (shard,) = stream.pending()
    features, pooled = row_values(video_spec(), shard.rows)
    features[1, 0, 0, 0] = 1e5
    committed = stream.write(shard, features, pooled, [RowDetails()] * 2)
    assert [item.status for item in committed] == ["ok", "ok" if fits else "failed"]
    assert FeatureStore.open(tmp_path / "cache").verify() == []


def test_large_reads_on_several_threads_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("avem.cache.disk.readers.BYTES_PER_THREAD", 100)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(4))
    for dtype in ("float16", "int8"):
        store = make_store(tmp_path / dtype, clips=9, dtype=dtype)
        rows = np.random.default_rng(0).integers(0, 9, size=50)
        single = torch.cat([store.video([row]) for row in rows])
        assert torch.equal(store.video(rows), single)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_of_every_bit_pattern_are_told_finite_or_not(dtype):
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(dtype).reshape(-1, 1)
    assert torch.equal(_all_finite(every), torch.isfinite(every)[:, 0])
    pairs = torch.cat([every, torch.zeros_like(every)], dim=1)
    assert torch.equal(_all_finite(pairs), torch.isfinite(every)[:, 0])
