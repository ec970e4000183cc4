"""Both ways of copying and checking give the bytes and Castagnoli's checksum of them, at any length and alignment."""

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.cache import FeatureStore
from avem.cache.disk import checked_copy
from avem.errors import StoreError
from tests.cache.helpers import make_store

NEEDS_KERNEL = pytest.mark.skipif(not checked_copy.has_instruction(), reason="the processor has no SSE 4.2")


@pytest.mark.parametrize(
    "compiled",
    [False, pytest.param(True, marks=pytest.mark.skipif(not checked_copy.has_instruction(), reason="no SSE 4.2"))],
)
@settings(max_examples=40)
@given(size=st.integers(0, 40_000), start=st.integers(0, 9), seed=st.integers(0, 99))
def test_copies_and_checksums(compiled, size, start, seed):
    data = np.frombuffer(np.random.default_rng(seed).bytes(size + start), dtype=np.uint8)[start:]
    target = np.zeros(size, dtype=np.uint8)
    limit = checked_copy.COMPILE_AFTER_BYTES
    checked_copy.COMPILE_AFTER_BYTES = -1 if compiled else 2**62
    try:
        found = checked_copy.checked_copy(data, target)
    finally:
        checked_copy.COMPILE_AFTER_BYTES = limit
    assert found == google_crc32c.value(data.tobytes())
    assert (target == data).all()


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_damaged_row_names_its_clip_and_unchecked_reading_does_not(tmp_path, kind, dtype):
    make_store(tmp_path / "cache", clips=6, dtype=dtype)
    path = next((tmp_path / "cache" / kind).glob("tiny-*/features/c.1.*"))
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    store = FeatureStore.open(tmp_path / "cache")
    with pytest.raises(StoreError, match=r"clip toy/004 .*row 4 does not match its checksum.*avem cache repair"):
        store.features(kind, [1, 5, 4])
    assert store.features(kind, [1, 5]).shape[0] == 2
    assert FeatureStore.open(tmp_path / "cache", check=False).features(kind, [4]).shape[0] == 1


def test_large_rows_are_checked_too(tmp_path):
    from dataclasses import replace

    from avem.cache import StoreWriter
    from tests.cache.helpers import clip_records, video_spec, write_pending

    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(4), root=tmp_path)
    write_pending(writer, replace(video_spec(), row_shape=(1, 90, 100)))
    store = FeatureStore.open(tmp_path / "cache")
    assert store.video([2]).shape == (1, 1, 90, 100)
    path = tmp_path / "cache/video/tiny-video/features/c.0.0.0.0"
    data = bytearray(path.read_bytes())
    data[2 * 18_004 + 17_999] ^= 64
    path.write_bytes(data)
    with pytest.raises(StoreError, match="toy/002"):
        FeatureStore.open(tmp_path / "cache").video([0, 2])
